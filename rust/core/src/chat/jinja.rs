//! Any template, rendered by minijinja, and the spans of its output.
//!
//! Where a template says by `{% generation %}` what the assistant says, that is taken. Where it does not, the contents
//! are found by [`super::marks`], and an assistant's turn is its content and the special token that ends it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use minijinja::{Environment, Value};

use super::environment::{
    FUEL, FUEL_MOST, FUEL_PER_BYTE, FUEL_PER_MESSAGE, describe, environment, out_of_fuel, render_error, set_marks,
};
use super::marks::{Marks, Side};
use super::program::Program;
use super::python::strip;
use super::template::{Rendered, Want};
use super::{tags, tricks};
use crate::error::{Error, Result};
use crate::record::{Message, Role};

/// A template longer than this is no chat template.
const LONGEST_SOURCE: usize = 1 << 20;
const NAME: &str = "chat_template";

/// Where contents stand in a text, and whether each is an assistant's.
type Contents = Vec<(Range<usize>, bool)>;

/// A compiled template.
#[derive(Debug)]
pub(super) struct Jinja {
    env: Environment<'static>,
    program: Program,
    marks: Marks,
    /// What the template sees besides the messages.
    variables: Vec<(String, Value)>,
    /// What ends an assistant's turn, where the template does not say so by tags.
    end: Option<String>,
    /// Whether the template marks what the assistant says by `{% generation %}`.
    tagged: bool,
}

impl Jinja {
    /// Compiles `source`; see [`super::ChatTemplate::new`].
    pub(super) fn new(source: &str, special: &BTreeMap<String, String>, ends: &[String]) -> Result<Jinja> {
        if source.len() > LONGEST_SOURCE {
            return Err(Error::Template {
                message: format!("it is too long: {} bytes", source.len()),
                hint: format!("a chat template has at most {LONGEST_SOURCE} bytes"),
            });
        }
        if let Some(name) = tricks::find(source) {
            return Err(Error::Template {
                message: format!("it uses `{name}`, which is not the same here as in Python"),
                hint: "write the template without it; a method needs its parentheses".to_string(),
            });
        }
        let texts: Vec<&str> = special.values().map(String::as_str).chain([source]).collect();
        let marks = Marks::absent_from(&texts);
        let (rewritten, tagged) = tags::rewrite(source);
        let mut env = environment()?;
        set_marks(&mut env, marks);
        let program = Program::compile(NAME, rewritten, &env).map_err(|error| Error::Template {
            message: format!("it cannot be read: {}", describe(&error)),
            hint: "correct the template; `transformers.AutoTokenizer` shows the same error, or please report this one"
                .to_string(),
        })?;
        let mut variables: Vec<(String, Value)> =
            special.iter().map(|(name, token)| (name.clone(), Value::from(token.as_str()))).collect();
        // transformers passes these two even where nobody gives them.
        variables.extend([("tools".to_string(), Value::from(())), ("documents".to_string(), Value::from(()))]);
        let mut ends: Vec<String> =
            ends.iter().chain(special.values()).filter(|end| !end.is_empty()).cloned().collect();
        // The longest that fits is the token that the tokenizer would find there.
        ends.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        ends.dedup();
        let mut jinja = Jinja { env, program, marks, variables, end: None, tagged };
        if !tagged {
            jinja.end = jinja.find_end(&ends)?;
        }
        Ok(jinja)
    }

    /// Renders a chat of at least one message.
    pub(super) fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        want: Want,
        out: &mut Rendered,
    ) -> Result<()> {
        let run = self.run(messages);
        let plain =
            run.render(plain_contents(messages), add_generation_prompt).map_err(|error| render_error(&error))?;
        let Some(found) = run.marks.take_out(&plain, &mut out.text) else {
            return Err(unknown_spans("its generation tags do not come in pairs in what it prints"));
        };
        if want.assistant && self.tagged {
            out.assistant = found.generation;
        }
        if !want.content && (self.tagged || !want.assistant) {
            return Ok(());
        }
        let Some(content) = run.find_contents(messages, add_generation_prompt, &out.text)? else {
            let reason = "it changes the contents of messages, so that they cannot be found in what it prints";
            let assistant_unknown = want.assistant && !self.tagged;
            return Err(if assistant_unknown { unknown_spans(reason) } else { unknown_contents(reason) });
        };
        for (span, assistant) in content {
            if assistant && want.assistant && !self.tagged {
                out.assistant.push(span.start..self.turn_end(&out.text, span.end)?);
            }
            if want.content {
                out.content.push(span);
            }
        }
        Ok(())
    }

    /// An environment whose marks do not occur in the chat and whose fuel suffices for it.
    fn run(&self, messages: &[Message]) -> Run<'_> {
        let bytes: usize = messages.iter().map(|message| message.content.len()).sum();
        let taken = messages.iter().any(|message| self.marks.occur_in(&message.content));
        let mut run = Run { jinja: self, env: Cow::Borrowed(&self.env), marks: self.marks };
        if taken {
            let own = self.variables.iter().filter_map(|(_, value)| value.as_str()).chain([self.program.source()]);
            let texts: Vec<&str> = messages.iter().map(|message| message.content.as_str()).chain(own).collect();
            run.marks = Marks::absent_from(&texts);
            set_marks(run.env.to_mut(), run.marks);
        }
        let fuel = bytes as u64 * FUEL_PER_BYTE + messages.len() as u64 * FUEL_PER_MESSAGE;
        if fuel > FUEL {
            run.env.to_mut().set_fuel(Some(fuel.min(FUEL_MOST)));
        }
        run
    }

    /// What ends the last turn of a short chat: spaces, if any, and a special token.
    ///
    /// Spaces count because the model has to write them before it can stop. A line break does not: what follows one is
    /// the next turn's header.
    ///
    /// A template that refuses these chats may take others; one that does not come to an end is refused here.
    fn find_end(&self, ends: &[String]) -> Result<Option<String>> {
        let [system, user, answer] = [(Role::System, "Help."), (Role::User, "Hi"), (Role::Assistant, "Hello")]
            .map(|(role, content)| Message::new(role, content));
        for chat in [vec![user.clone(), answer.clone()], vec![system, user, answer]] {
            let run = self.run(&chat);
            let plain = match run.render(plain_contents(&chat), false) {
                Ok(plain) => plain,
                Err(error) if out_of_fuel(&error) => return Err(render_error(&error)),
                Err(_) => continue,
            };
            let Some(content) = run.find_contents(&chat, false, &plain)? else { continue };
            let Some((span, _)) = content.into_iter().rfind(|(_, assistant)| *assistant) else { continue };
            let after = &plain[span.end..];
            let token = after.trim_start_matches(' ');
            if let Some(end) = ends.iter().find(|end| token.starts_with(end.as_str())) {
                return Ok(Some(after[..after.len() - token.len() + end.len()].to_string()));
            }
        }
        Ok(None)
    }

    /// Where the turn ends whose content ends at `at`.
    fn turn_end(&self, text: &str, at: usize) -> Result<usize> {
        let Some(end) = &self.end else {
            return Err(unknown_spans("it prints no special token after what the assistant says"));
        };
        if !text[at..].starts_with(end.as_str()) {
            return Err(unknown_spans(&format!(
                "an assistant's turn does not end as the last turn does, with: `{end}`"
            )));
        }
        Ok(at + end.len())
    }
}

/// One chat's renderings.
struct Run<'a> {
    jinja: &'a Jinja,
    env: Cow<'a, Environment<'static>>,
    marks: Marks,
}

impl Run<'_> {
    /// What the template prints for `messages` with these contents.
    fn render<'c>(
        &self,
        messages: impl Iterator<Item = (Role, Cow<'c, str>)>,
        add_generation_prompt: bool,
    ) -> std::result::Result<String, minijinja::Error> {
        let messages: Vec<Value> = messages
            .map(|(role, content)| {
                let content = Value::from(content.as_ref());
                Value::from_pairs([("role", Value::from(role.as_str())), ("content", content)])
            })
            .collect();
        let context =
            [("messages", Value::from(messages)), ("add_generation_prompt", Value::from(add_generation_prompt))];
        let own = self.jinja.variables.iter().map(|(name, value)| (name.as_str(), value.clone()));
        let context = Value::from_pairs(own.chain(context));
        self.jinja.program.render(&self.env, context)
    }

    /// Where the contents stand in `plain`, if rendering them with marks shows it.
    ///
    /// A template may fail on marked contents that it takes without marks: then this shows nothing. If it does not come to an
    /// end, that is said.
    fn find_contents(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        plain: &str,
    ) -> Result<Option<Contents>> {
        // A mark at the border keeps white space from being stripped, so the try that holds most of a content and still gives
        // the same text is the right one.
        let padded = |message: &Message| strip(&message.content).len() < message.content.len();
        let tries: &[(Side, Side)] = &[
            (Side::Outside, Side::Outside),
            (Side::Inside, Side::Outside),
            (Side::Outside, Side::Inside),
            (Side::Inside, Side::Inside),
        ];
        let tries = if messages.iter().any(padded) { tries } else { &tries[..1] };
        for &(left, right) in tries {
            let contents = messages.iter().map(|m| (m.role, Cow::Owned(self.marks.wrap(m, left, right))));
            let marked = match self.render(contents, add_generation_prompt) {
                Ok(marked) => marked,
                Err(error) if out_of_fuel(&error) => return Err(render_error(&error)),
                Err(_) => continue,
            };
            let mut text = String::with_capacity(plain.len());
            let Some(found) = self.marks.take_out(&marked, &mut text) else { continue };
            if text == plain {
                return Ok(Some(found.content));
            }
        }
        Ok(None)
    }
}

/// The messages' roles and contents as they are.
fn plain_contents(messages: &[Message]) -> impl Iterator<Item = (Role, Cow<'_, str>)> {
    messages.iter().map(|message| (message.role, Cow::Borrowed(message.content.as_str())))
}

/// The error for a text whose parts cannot be told apart.
fn unknown_spans(reason: &str) -> Error {
    Error::Template {
        message: format!("cannot tell what the assistant says: {reason}"),
        hint: "put `{% generation %}` … `{% endgeneration %}` around it in the template, or set `loss_on: all`"
            .to_string(),
    }
}

/// The error for a text in which the special tokens that people wrote out cannot be told from the template's.
fn unknown_contents(reason: &str) -> Error {
    Error::Template {
        message: format!("cannot tell special tokens of the template from their texts in messages: {reason}"),
        hint: "drop chats with such texts, or set `allow_special_in_content`, which makes them special tokens"
            .to_string(),
    }
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "one span is a list of spans")]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn special() -> BTreeMap<String, String> {
        BTreeMap::from([("eos_token".to_string(), "</s>".to_string())])
    }

    fn render(source: &str, messages: &[Message]) -> Result<Rendered> {
        let mut out = Rendered::default();
        Jinja::new(source, &special(), &[])?.render(messages, false, Want::ALL, &mut out)?;
        Ok(out)
    }

    fn chat() -> Vec<Message> {
        vec![Message::new(Role::User, " Hi\n"), Message::new(Role::Assistant, "\u{1f}Hello </s> ")]
    }

    fn spans(out: &Rendered) -> (Vec<&str>, Vec<&str>) {
        let pick = |spans: &[Range<usize>]| spans.iter().map(|span| &out.text[span.clone()]).collect();
        (pick(&out.content), pick(&out.assistant))
    }

    const LOOP: &str = "{% for m in messages %}<{{ m.role }}>";

    #[test]
    fn spans_without_tags() {
        let out = render(&format!("{LOOP}{{{{ m.content + eos_token }}}}{{% endfor %}}"), &chat()).unwrap();
        assert_eq!(out.text, "<user> Hi\n</s><assistant>\u{1f}Hello </s> </s>");
        assert_eq!(spans(&out), (vec![" Hi\n", "\u{1f}Hello </s> "], vec!["\u{1f}Hello </s> </s>"]));
        // Spaces before the end-of-turn token are the model's to write.
        let out =
            render(&format!("{LOOP}{{{{ m.content|trim + ' ' + eos_token }}}}\n{{% endfor %}}"), &chat()).unwrap();
        assert_eq!(spans(&out), (vec!["Hi", "Hello </s>"], vec!["Hello </s> </s>"]));
        let out = render(&format!("{LOOP}{{{{ m.content.lstrip() + eos_token }}}}\n{{% endfor %}}"), &chat()).unwrap();
        assert_eq!(spans(&out).1, ["Hello </s> </s>"]);
    }

    #[test]
    fn spans_with_tags() {
        let source = "{% for m in messages %}\n{% if m.role == 'assistant' %}\n  {% generation %}\n{{ m.content[:-5].strip() }}!\n  \
                      {%- endgeneration %}\n{% else %}\n{{ m.content }}\n{% endif %}\n{% endfor %}";
        let jinja = Jinja::new(source, &special(), &[]).unwrap();
        let mut out = Rendered::default();
        let want = Want { content: false, assistant: true };
        jinja.render(&chat(), false, want, &mut out).unwrap();
        assert_eq!((out.text.as_str(), out.assistant.clone()), (" Hi\n\nHello!", vec![5..11]));
        let message = jinja.render(&chat(), false, Want::ALL, &mut out).unwrap_err().to_string();
        assert_eq!(
            message,
            "cannot apply the chat template: cannot tell special tokens of the template from their texts in messages: it \
             changes the contents of messages, so that they cannot be found in what it prints\nhint: drop chats with such \
             texts, or set `allow_special_in_content`, which makes them special tokens"
        );
    }

    #[test]
    fn a_variable_set_between_tags_stays_there() {
        let source = "{% set x = 'a' %}{% generation %}{% set x = 'b' %}{{ x }}{% endgeneration %}{{ x }}";
        assert_eq!(render(source, &chat()[..1]).unwrap().text, "ba");
    }

    #[test]
    fn contents_may_hold_the_marks() {
        let messages = [Message::new(Role::Assistant, "\u{F0000}a\u{F0002}\u{F0004}")];
        let out = render(&format!("{LOOP}{{{{ m.content + eos_token }}}}{{% endfor %}}"), &messages).unwrap();
        assert_eq!(out.text, "<assistant>\u{F0000}a\u{F0002}\u{F0004}</s>");
        assert_eq!(spans(&out).0, ["\u{F0000}a\u{F0002}\u{F0004}"]);
        let tagged = format!("{LOOP}{{% generation %}}{{{{ m.content }}}}{{% endgeneration %}}{{% endfor %}}");
        assert_eq!(spans(&render(&tagged, &messages).unwrap()).1, ["\u{F0000}a\u{F0002}\u{F0004}"]);
    }

    #[test]
    fn what_cannot_be_told_is_an_error() {
        for (source, wanted) in [
            ("{{ messages[1].content }}", "it prints no special token after what the assistant says"),
            ("{{ messages[1].content }}\n{{ eos_token }}", "it prints no special token after what the assistant says"),
            (
                "{% for m in messages %}{{ m.content }}{{ eos_token if loop.length < 4 }}{% endfor %}",
                "does not end as the last turn does",
            ),
            ("{{ messages[0].content | length }}", "it changes the contents of messages"),
        ] {
            let messages = [chat(), chat()].concat();
            let message = render(source, &messages).unwrap_err().to_string();
            assert!(message.contains(wanted), "{source}: {message}");
            assert!(message.contains("\nhint: put `{% generation %}`"), "{message}");
        }
    }

    #[test]
    fn python_where_the_engine_differs() {
        for (source, wanted) in [
            ("{{ ' a\u{1f}'|trim }}|{{ '\u{1c}a '.lstrip() }}|{{ 'xax'.strip('x') }}|", "a|a |a|"),
            ("{{ tools is iterable }}{{ tools is none }}{{ x is iterable }}{{ 'a' is sequence }}", "FalseTrueTrueTrue"),
            (
                "{{ 'a b\\n c'.split() | tojson }}{{ 'a,b,c'.rsplit(',', 1) | tojson }}",
                r#"["a", "b", "c"]["a,b", "c"]"#,
            ),
            ("{{ 'a\u{85}b\\r\\nc\\n'.splitlines() | tojson }}", r#"["a", "b", "c"]"#),
            (
                "{{ {'b': [1, true, none], 'a': '<é\\x7f\\n'} | tojson }}",
                "{\"b\": [1, true, null], \"a\": \"<é\u{7f}\\n\"}",
            ),
            (
                "{{ {'b': 1, 'a': 'é😀'} | tojson(ensure_ascii=True, sort_keys=True) }}",
                r#"{"a": "\u00e9\ud83d\ude00", "b": 1}"#,
            ),
            ("{{ [1, {}, []] | tojson(indent=1) }}", "[\n 1,\n {},\n []\n]"),
            ("{{ [1, 2] | tojson(separators=(',', ':')) }}", "[1,2]"),
            ("{{ 'ab cd-eF' | title }}{{ 'aB' | capitalize }}{{ none }}{{ 1 == 1 }}", "Ab Cd-EfAbNoneTrue"),
            ("{{ 'aXbX'.replace('X', '-', 1) }}{{ '-'.join(['a', 'b']) }}{{ 'ab'.removeprefix('a') }}", "a-bXa-bb"),
            ("a\r\nb\r", "a\nb"),
            ("a\n\n", "a\n"),
        ] {
            assert_eq!(
                render(source, &chat()[..1]).map(|out| out.text).map_err(|e| e.to_string()),
                Ok(wanted.to_string()),
                "{source}"
            );
        }
    }

    #[test]
    fn what_python_may_print_otherwise_is_refused() {
        for source in [
            "{{ 1.5 }}",
            "{{ [1] }}",
            "{{ {'a': 1} | string }}",
            "{{ 1.5 | tojson }}",
            "{{ x | tojson }}",
            "{{ 'é' | title }}",
            "{{ 'a' | safe }}",
            "{{ 'a' | indent }}",
            "{{ debug() }}",
            "{{ 'a b'.split(none, 1) }}",
            "{{ 'é'.isalpha() }}",
            "{{ 'a' is startingwith('a') }}",
            "{{ '{}'.format(1) }}",
            "{{ x + 'a' }}",
            "{{ x.y }}",
            "{{ messages.append(1) }}",
        ] {
            assert!(render(source, &chat()[..1]).is_err(), "{source}");
        }
        assert!(render("{% if %}", &chat()).unwrap_err().to_string().contains("it cannot be read: "));
    }

    #[test]
    fn a_template_may_refuse_and_must_not_look_at_the_clock() {
        let message = render("\n{{ raise_exception('no ' + messages[0].role) }}", &chat()).unwrap_err().to_string();
        assert_eq!(
            message,
            "cannot apply the chat template: it refuses this chat: no user\nhint: drop such chats, or give a template that takes them"
        );
        assert!(
            render("{{ strftime_now('%d') }}", &chat()).unwrap_err().to_string().contains("it prints today's date")
        );
        assert_eq!(render("{{ strftime_now is defined }}", &chat()[..1]).unwrap().text, "True");
    }

    #[test]
    fn hostile_templates_end_in_an_error() {
        let nested = format!("{}1{}", "(".repeat(50_000), ")".repeat(50_000));
        let blocks = "{% if 1 %}".repeat(50_000);
        let long = "a".repeat(LONGEST_SOURCE + 1);
        let limit = Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 1 });
        for source in [
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
            "{% for a in range(99999) %}{{ 'x' * 99999 }}{% endfor %}",
            "{{ 'x' * 9999999999 }}",
            "{% set n = namespace(x='x') %}{% for a in range(64) %}{% set n.x = n.x + n.x %}{% endfor %}{{ n.x }}",
            "{% set n = namespace(x='x') %}{% for a in range(64) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
            "{% set n = namespace(x='x') %}{% for a in range(64) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x | tojson }}",
            "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
            "{% for a in messages recursive %}{{ loop(messages) }}{% endfor %}",
            "{{ ('x' * 99999).replace('x', 'y' * 99999) }}",
            "{{ ('x' * 9999).join(('y' * 99999).split('y')) }}",
            "{{ ('x' * 9999) | replace('x', 'y' * 999999) }}",
            "{{ [[[[range(99999)|list]]]] | tojson(indent='x' * 99999) }}",
            "{{ range(999999999) | list }}",
            "{{ range(99999)|map('string')|join('x' * 99999) }}",
            "{% generation %}{{ 'x' * 999999999 }}{% endgeneration %}",
            &format!("{{{{ {nested} }}}}"),
            &blocks,
            &long,
        ] {
            let start = Instant::now();
            let error = render(source, &chat()).unwrap_err();
            let shown = source.get(..90).unwrap_or(source);
            assert!(start.elapsed() < limit, "{shown}: {:?}", start.elapsed());
            assert!(error.to_string().starts_with("cannot apply the chat template: "), "{shown}: {error}");
        }
    }

    #[test]
    fn a_long_chat_has_fuel_enough() {
        let messages = [Message::new(Role::User, "x".repeat(20 << 20)), Message::new(Role::Assistant, "y")];
        let out =
            render(&format!("{LOOP}{{{{ '\n' + m.content | trim + eos_token + '\n' }}}}{{% endfor %}}"), &messages)
                .unwrap();
        assert_eq!(out.content.len(), 2);
    }
}
