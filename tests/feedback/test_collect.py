"""Faults of endpoints, each provoked by the test server; budgets; pace."""

import asyncio
import json
import socket
import time

import pytest

from zephyr_data.errors import ConfigError, EndpointError
from zephyr_data.feedback.collect import Asker, Budget, Request, RequestFailed, collect
from zephyr_data.feedback.endpoint import Endpoint, read_response
from zephyr_data.feedback.options import Answerer
from zephyr_data.feedback.progress import Progress
from zephyr_data.feedback.store import Store, request_key


@pytest.fixture
def run(tmp_path):
    """Asks `count` questions and returns the records in their order (None where a request failed)."""

    def ask(options, count=1, budget=None, folder="store"):
        endpoint = Endpoint(Answerer.model_validate(options), tmp_path)
        found = [None] * count

        def job(number):
            messages = [{"role": "user", "content": f"question {number}"}]
            key = request_key(model=endpoint.identity, messages=messages)
            request = Request(endpoint, key, "completion", str(number), messages, {}, {})

            async def ask_one(asker):
                found[number] = await asker.ask(request)

            return endpoint, ask_one

        with Store.write(tmp_path / folder) as store:
            progress = Progress(count)
            asker = Asker(store, budget or Budget(), progress, seed=1)
            ask.progress = progress
            asyncio.run(collect([job(n) for n in range(count)], asker))
        return found

    return ask


@pytest.mark.parametrize("fault", ["429", "429-bare", "500", "502", "503", "html", "cut", "drop"])
def test_passing_fault_is_retried(server, model_options, run, fault):
    server.fail_first(fault, fault)
    (record,) = run(model_options())
    assert record["answer"].startswith("Answer ")
    assert len(server.requests) == 3
    assert [bool(attempt["error"]) for attempt in record["attempts"]] == [True, True, False]


def test_all_faults_at_once_lose_and_double_nothing(server, model_options, run):
    kinds = ["429", "500", "502", "503", "html", "empty", "cut", "drop", "429-bare"]
    server.fault = lambda count: kinds[count // 3 % len(kinds)] if count % 3 == 0 else None
    found = run(model_options(max_attempts=12), count=60)
    assert all(record["answer"].startswith("Answer ") for record in found)
    assert len({record["key"] for record in found}) == 60
    good = len(server.requests) - len(server.requests) // 3
    assert good == 60


def test_retry_after_is_waited_for_by_the_whole_endpoint(server, model_options, run):
    # question 0 is refused at once; question 1 is answered a little later, and question 2, which
    # takes its place, must not leave before the time that question 0 was told
    refused = []

    def fault(_):
        if server.requests[-1]["messages"][-1]["content"] == "question 0" and not refused:
            refused.append(1)
            return "429"
        return None

    server.fault = fault
    server.answer = lambda r: time.sleep(0.1 * r["messages"][-1]["content"].endswith("1")) or "x"
    run(model_options(concurrency=2), count=3)
    assert len(server.requests) == 4
    assert server.arrived[2] - server.arrived[0] >= 0.2


def test_hanging_request_times_out_and_is_retried(server, model_options, run):
    server.hang = 1.0
    server.fail_first("hang")
    (record,) = run(model_options(timeout_s=0.2))
    assert record["attempts"][0]["error"] == "no answer within 0.2 s"
    assert record["answer"].startswith("Answer ")


def test_refused_connection_is_retried_then_counted(tmp_path, model_options, run):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    found = run(model_options(base_url=f"http://127.0.0.1:{port}/v1", max_attempts=3))
    assert found == [None]
    line = json.loads(next((tmp_path / "store" / "segments").iterdir()).read_text())
    assert line["status"] == "failed"
    assert len(line["attempts"]) == 3
    assert line["error"].startswith("connection failed")


def test_empty_answer_is_asked_for_three_times_and_paid_for(server, model_options, run):
    server.fault = lambda _: "empty"
    (record,) = run(model_options(price={"input": 1e5, "output": 1e5}))
    assert record["answer"] == ""
    assert record["error"] == "empty answer"
    assert len(server.requests) == 3
    assert record["usage"] == {"prompt_tokens": 10, "completion_tokens": 5}
    assert record["usage_all_attempts"] == {"prompt_tokens": 30, "completion_tokens": 15}
    assert record["cost"] == pytest.approx(4.5)


@pytest.mark.parametrize(("fault", "reason"), [("length", "length"), ("filter", "content_filter")])
def test_finish_reason_is_kept_and_not_retried(server, model_options, run, fault, reason):
    server.fail_first(fault)
    (record,) = run(model_options())
    assert record["finish_reason"] == reason
    assert len(server.requests) == 1


def test_missing_usage_is_estimated_so_that_the_budget_sees_it(server, model_options, run):
    server.fault = lambda _: "no-usage"
    (record,) = run(model_options(price={"input": 1.0, "output": 1.0}))
    assert record["usage_estimated"] is True
    assert record["cost"] > 0


def test_refused_request_fails_alone(server, model_options, run):
    server.fail_first("400")
    found = run(model_options(concurrency=1), count=3)
    assert [record is None for record in found] == [True, False, False]
    assert len(server.requests) == 3


def test_wrong_key_stops_the_run(server, model_options, run):
    server.fault = lambda _: "401"
    with pytest.raises(EndpointError, match="refuses all requests: status 401") as raised:
        run(model_options(concurrency=2), count=50)
    assert "hint: check `base_url`, `model` and the key" in str(raised.value)
    assert len(server.requests) <= 2


def test_max_failures_stops_with_the_store_intact(server, model_options, run):
    server.fault = lambda count: "400" if count > 5 else None
    with pytest.raises(EndpointError, match="more than 3 requests failed"):
        run(model_options(concurrency=1), count=50, budget=Budget(max_failures=3))
    assert len(server.requests) == 9
    server.fault = lambda _: None
    found = run(model_options(), count=50)
    assert all(found)
    assert len(server.requests) == 9 + 45


def test_max_cost_is_never_exceeded_and_the_run_goes_on_later(server, model_options, run):
    # 10 + 5 tokens at 1 each make 15; reserved are the estimate and all of `max_tokens`
    options = model_options(price={"input": 1e6, "output": 1e6}, concurrency=8)
    with pytest.raises(EndpointError, match="the budget is spent") as raised:
        run(options, count=50, budget=Budget(max_cost=400))
    assert "hint: raise `--max-cost`" in str(raised.value)
    first = len(server.requests)
    assert 15 * first <= 400
    # close to the limit: no more than one reservation of at most 80 is left unused
    assert 15 * first > 400 - 80 - 15
    assert all(run(options, count=50, budget=Budget(max_cost=10_000)))
    assert len(server.requests) == 50


def test_empty_answers_are_not_asked_for_again_beyond_the_budget(server, model_options, run):
    # an attempt costs 15 and reserves 16; three attempts at an answer would be 45, four of them 180
    server.fault = lambda _: "empty"
    price = {"input": 1e6, "output": 1e6}
    options = model_options(price=price, concurrency=4, sampling={"max_tokens": 5})
    with pytest.raises(EndpointError, match="the budget is spent"):
        run(options, count=50, budget=Budget(max_cost=100))
    assert 4 <= len(server.requests) <= 6


def test_paid_attempt_is_in_the_store_when_the_run_stops(server, model_options, run, tmp_path):
    # question 0 is paid for and empty; while it waits for its next attempt question 1 stops the run
    def first(request):
        return request["messages"][-1]["content"] == "question 0"

    server.fault = lambda _: "empty" if first(server.requests[-1]) else "401"
    server.answer = lambda request: time.sleep(0 if first(request) else 0.3) or "late"
    pauses = {"backoff_s": 2.0, "max_backoff_s": 2.0}
    options = model_options(price={"input": 1e6, "output": 1e6}, concurrency=2, **pauses)
    with pytest.raises(EndpointError, match="refuses all requests"):
        run(options, count=2)
    assert len(server.requests) == 2
    with Store.write(tmp_path / "store") as store:
        assert store.cost == 15


def test_nonsense_in_retry_after_is_ignored():
    from zephyr_data.feedback.pace import retry_after

    assert retry_after({"retry-after-ms": "nan"}) is None
    assert retry_after({"retry-after-ms": "inf"}) is None
    assert retry_after({"retry-after": "soon"}) is None
    assert retry_after({"retry-after": "1e9"}) is None
    assert retry_after({"retry-after": "99999"}) == 300.0
    assert retry_after({"retry-after-ms": "250"}) == 0.25
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0.0


def test_key_is_masked_before_a_message_is_cut(server, model_options, run, tmp_path, monkeypatch):
    key = "sk-" + "s3cret" * 40
    monkeypatch.setenv("TEST_MODEL_KEY", key)
    server.fault = lambda _: "echo-key"
    run(model_options(key_env="TEST_MODEL_KEY"))
    written = b"".join(p.read_bytes() for p in (tmp_path / "store").rglob("*") if p.is_file())
    assert b"***" in written
    assert b"s3cret" not in written


def test_half_a_surrogate_pair_in_an_answer_is_replaced(server, model_options, run):
    server.answer = lambda _: "half a pair: \ud83d."
    (record,) = run(model_options())
    assert record["answer"] == "half a pair: ?."


@pytest.mark.parametrize("usage", [{"prompt_tokens": -5, "completion_tokens": 5}, {"x": 1}, [1]])
def test_impossible_usage_is_estimated(usage):
    body = {"choices": [{"message": {"content": "x"}}], "usage": usage}
    assert read_response(json.dumps(body).encode()).usage is None


def test_max_cost_needs_prices(model_options, run):
    with pytest.raises(ConfigError, match="`--max-cost` needs the price of model: small"):
        run(model_options(), budget=Budget(max_cost=1))


def test_concurrency_is_used_and_kept(server, model_options, run):
    server.latency = 0.05
    run(model_options(concurrency=5), count=40)
    assert server.most_in_flight == 5


def test_requests_per_minute_are_kept(server, model_options, run):
    run(model_options(concurrency=8, requests_per_minute=600), count=16)
    # one second's worth, ten requests, may leave at once; the other six leave a tenth apart
    assert server.arrived[-1] - server.arrived[0] >= 0.4


def test_tokens_per_minute_are_kept(model_options, run):
    began = time.monotonic()
    # each reserves about 75 tokens (64 to answer) and gives back what it did not use
    run(model_options(concurrency=1, tokens_per_minute=3000), count=8)
    assert time.monotonic() - began >= 1.0


def test_two_jobs_with_one_question_send_one_request(server, model_options, tmp_path):
    server.latency = 0.05
    endpoint = Endpoint(Answerer.model_validate(model_options()), tmp_path)
    messages = [{"role": "user", "content": "same"}]
    request = Request(endpoint, request_key(m=messages), "completion", "1", messages, {}, {})

    async def job(asker):
        await asker.ask(request)

    with Store.write(tmp_path / "store") as store:
        asyncio.run(collect([(endpoint, job)] * 4, Asker(store, Budget(), Progress(4), 1)))
    assert len(server.requests) == 1


def test_key_comes_from_the_environment_and_is_written_nowhere(
    server, model_options, run, tmp_path, monkeypatch
):
    monkeypatch.setenv("TEST_MODEL_KEY", "sk-very-secret")
    server.fail_first("echo-key")
    found = run(model_options(key_env="TEST_MODEL_KEY", concurrency=1), count=2)
    assert found[0] is None
    assert set(server.authorizations) == {"Bearer sk-very-secret"}
    written = b"".join(p.read_bytes() for p in (tmp_path / "store").rglob("*") if p.is_file())
    assert b"bad key Bearer ***" in written
    assert b"sk-very-secret" not in written


def test_missing_key_is_told_by_its_name(model_options, run, monkeypatch):
    monkeypatch.delenv("TEST_MODEL_KEY", raising=False)
    with pytest.raises(ConfigError, match="not set in the environment: TEST_MODEL_KEY"):
        run(model_options(key_env="TEST_MODEL_KEY"))


@pytest.mark.parametrize("aiohttp", [True, False])
def test_faults_on_the_clients_own_way(server, model_options, run, monkeypatch, aiohttp):
    """Which https and proxies take; also where aiohttp is not installed."""
    monkeypatch.setattr("zephyr_data.feedback.client.proxied", lambda _: True)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    if not aiohttp:
        monkeypatch.setattr("zephyr_data.feedback.client.fast_transport", lambda *_: None)
    server.hang = 4.0
    server.fail_first("cut", "drop", "503", "429", "html", "hang")
    (record,) = run(model_options(timeout_s=1.5, max_attempts=9))
    errors = [attempt["error"] for attempt in record["attempts"]]
    assert len(errors) == 7
    assert all(error.startswith("connection failed: ") for error in errors[:2])
    assert errors[2:4] == ["status 503: told to 503", "status 429: told to 429"]
    assert errors[5:] == ["no answer within 1.5 s", None]


def test_failed_request_raises_inside_the_job(server, model_options, tmp_path):
    server.fail_first("400")
    endpoint = Endpoint(Answerer.model_validate(model_options()), tmp_path)
    request = Request(
        endpoint, "0" * 64, "completion", "1", [{"role": "user", "content": "x"}], {}, {}
    )
    seen = []

    async def job(asker):
        try:
            await asker.ask(request)
        except RequestFailed:
            seen.append("failed")
            raise

    with Store.write(tmp_path / "store") as store:
        progress = Progress(1)
        asyncio.run(collect([(endpoint, job)], Asker(store, Budget(), progress, 1)))
    assert seen == ["failed"]
    assert (progress.done, progress.failed) == (0, 1)
