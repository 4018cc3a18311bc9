"""Two of the four local answerers of `make feedback-demo`: small functions from prompt to answer.

`careful` knows that multiplication comes first, `hasty` reckons from left to right; both look facts up, and `hasty` takes the
first thing that comes to mind for half of them.
"""

SUMS = {
    "A baker fills 6 trays with 12 rolls each and then bakes 5 more rolls. How many rolls are there?": "6 * 12 + 5",
    "Mara has 40 euros. She buys 3 books at 9 euros each. How many euros are left?": "40 - 3 * 9",
    "A train has 8 carriages with 52 seats each; 17 seats are broken. How many seats can be used?": "8 * 52 - 17",
    "What is 7 + 5 * 3?": "7 + 5 * 3",
    "What is 100 - 4 * 12?": "100 - 4 * 12",
    "What is 9 * 9 + 19?": "9 * 9 + 19",
    "Four friends share 2 pizzas of 10 slices each. Then 3 slices fall on the floor. How many slices are left to eat?": "2 * 10 - 3",
    "A shelf holds 15 jars. Nina puts 2 more rows of 6 jars on it. How many jars are on the shelf?": "15 + 2 * 6",
    "What is 2 + 2 * 2?": "2 + 2 * 2",
    "What is 81 - 9 * 8?": "81 - 9 * 8",
    "A lamp costs 30 euros and each of its 4 bulbs costs 6 euros. What do they cost together?": "30 + 4 * 6",
    "What is 12 * 12 - 44?": "12 * 12 - 44",
}
FACTS = {
    "Which planet is closest to the sun?": ("Mercury", "Venus"),
    "What is the chemical symbol of iron?": ("Fe", "Ir"),
    "How many sides does a hexagon have?": ("6", "8"),
    "In which ocean do the Azores lie?": ("Atlantic", "Pacific"),
    "What is the capital of Australia?": ("Canberra", "Sydney"),
    "How many legs does a spider have?": ("8", "6"),
    "Which gas do plants take in for photosynthesis?": ("carbon dioxide", "oxygen"),
    "What is the square root of 144?": ("12", "14"),
    "Which language is spoken in Brazil?": ("Portuguese", "Spanish"),
    "How many minutes are there in two hours?": ("120", "60"),
    "What is the freezing point of water in degrees Celsius?": ("0", "32"),
    "Who wrote the play Hamlet?": ("William Shakespeare", "Christopher Marlowe"),
}


def question(prompt: str) -> str:
    """The prompt without the sentence about the form of the answer."""
    return prompt.split(" Finish with a line")[0]


def careful(prompt: str) -> str:
    """Right about everything it knows."""
    asked = question(prompt)
    if asked in FACTS:
        return f"It is {FACTS[asked][0]}.\nA: {FACTS[asked][0]}"
    tokens = SUMS[asked].split()
    while "*" in tokens:
        at = tokens.index("*")
        tokens[at - 1 : at + 2] = [str(int(tokens[at - 1]) * int(tokens[at + 1]))]
    return (
        f"We need {SUMS[asked]}. First the product: {' '.join(tokens)}.\nA: {left_to_right(tokens)}"
    )


def hasty(prompt: str) -> str:
    """Quick, and wrong where order matters or a name only sounds right."""
    asked = question(prompt)
    if asked in FACTS:
        right, wrong = FACTS[asked]
        return f"A: {right if len(asked) % 2 else wrong}"
    return f"{SUMS[asked]}\nA: {left_to_right(SUMS[asked].split())}"


def left_to_right(tokens: list[str]) -> int:
    """Reckons without any precedence."""
    total = int(tokens[0])
    for operator, number in zip(tokens[1::2], map(int, tokens[2::2]), strict=True):
        total = {"+": total + number, "-": total - number, "*": total * number}[operator]
    return total
