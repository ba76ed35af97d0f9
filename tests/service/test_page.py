"""The page of the service, in a real browser."""

import shutil
from urllib.parse import urlencode

import pytest

pytest.importorskip("playwright", reason="needs the extra 'test'")
pytest.importorskip("uvicorn", reason="needs the extra 'serve'")

from playwright.sync_api import expect, sync_playwright
from test_service import TOWER, in_a_thread, running, wait_until

expect.set_options(timeout=60_000)  # milliseconds; a busy machine is no failure
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, as Debian's package chromium installs it")
QUESTION = "Who kept the log?"
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
EXAMPLES = {
    "A short story": "Maren Holt",
    "A technical note": "Below −20 °C",
    "A contract": "at least three months",
    "Not in the text": None,
    "A long text": "borrowed the money from the brewery",
}


@pytest.fixture(scope="module")
def url():
    with running() as (address, _):
        yield address


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium, url):
    """A function that opens it; whatever the browser complains of, or asks of others, fails the test."""
    contexts, complaints = [], []

    def opened(fragment="", url=url, **options):
        contexts.append(chromium.new_context(**options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: complaints.append(request.url) if not request.url.startswith(url) else None)
        page.goto(f"{url}/{fragment}")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not complaints


def ask(page, question, context):
    if page.get_by_role("button", name="Edit the text").is_visible():
        page.get_by_role("button", name="Edit the text").click()
    page.get_by_label("Question").fill(question)
    page.get_by_label("Text", exact=True).fill(context)
    page.get_by_role("button", name="Find the answer").click()


def percent(share):
    if share < 0.0001:
        return "<0.01%"
    if share < 0.01:
        return f"{100 * share:.1g}%"
    return ">99%" if share >= 0.995 else f"{share:.0%}"


def test_a_question_has_its_answer_in_its_sentence_and_in_the_text(open_page, embedded):
    page = open_page()
    ask(page, QUESTION, TOWER)
    expect(page.locator("mark")).to_have_text("Maren Holt")
    expect(page.locator("#text")).to_have_text(TOWER)
    expect(page.locator("#sentence")).to_have_text("Maren Holt kept its log.")
    expect(page.locator("#sentence strong")).to_have_text("Maren Holt")
    share = percent(embedded.search(QUESTION, TOWER)[0]["score"])
    expect(page.get_by_role("heading", name=f"Answer Maren Holt, {share}")).to_be_focused()


def test_at_most_two_other_answers_are_listed_with_their_percentages(open_page, embedded):
    page = open_page()
    page.get_by_role("button", name="A contract").click()
    expect(page.locator("#result")).to_be_visible()
    found = embedded.search(page.locator("#question").input_value(), page.locator("#text").text_content())
    others = [answer for answer in found[1:] if answer["score"] >= 0.01]
    rows = page.locator("#others li")
    expect(rows).to_have_count(len(others))
    assert len(others) == 1 and others[0]["answer"] == "six months"
    expect(rows.locator(".passage")).to_have_text("six months")
    expect(rows.locator(".score")).to_have_text(percent(others[0]["score"]))
    expect(page.locator("#absent")).to_have_text(f"Not in this text {percent(found.no_answer)}")


def test_the_two_closest_passages_of_a_text_that_does_not_answer_can_be_seen(open_page, embedded):
    page, question = open_page(), "What is lost when the firmware is replaced?"
    page.get_by_role("button", name="A contract").click()
    expect(page.locator("mark")).to_be_visible()
    found = embedded.search(question, page.locator("#text").text_content())
    assert found.best is None and sum(answer["score"] >= 0.01 for answer in found) == 3
    page.get_by_label("Question").fill(question)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="The closest passages")).to_be_visible()
    expect(page.locator("#others .passage")).to_have_text([answer["answer"] for answer in found[:2]])
    expect(page.locator("mark")).to_have_count(0)
    page.locator("#others button").first.click()
    expect(page.locator("mark")).to_have_text(found[0]["answer"])


def test_another_answer_is_marked_as_long_as_it_is_pressed(open_page):
    page = open_page()
    page.get_by_role("button", name="A contract").click()
    other = page.locator("#others button")
    best = "at least three months"
    for pressed, marked in (("false", best), ("true", "six months"), ("false", best)):
        expect(other).to_have_attribute("aria-pressed", pressed)
        expect(page.locator("mark")).to_have_text(marked)
        other.click()


def test_a_text_that_does_not_answer_is_said_not_to(open_page, embedded):
    page, question, context = open_page(), "How many people live in Turin?", "Turin."
    found = embedded.search(question, context)
    assert found.best is None
    ask(page, question, context)
    expect(page.get_by_role("heading", name=f"Probably not in this text {percent(found.no_answer)}")).to_be_focused()
    expect(page.locator("mark, strong")).to_have_count(0)
    ask(page, question, "\0")
    expect(page.get_by_role("heading", name="Probably not in this text >99%")).to_be_visible()
    expect(page.locator("#others")).to_be_hidden()


def test_a_long_sentence_is_shortened_around_its_answer(open_page):
    page = open_page()
    sea = "past the grey sea and the old wall, " * 20
    ask(page, QUESTION, f"It was cold. Down {sea}Maren Holt kept the log\nof the tower, {sea}and so on. It was late.")
    shown = page.locator("#sentence")
    expect(shown).to_contain_text("wall, Maren Holt kept the log of the tower, past")
    text = shown.text_content()
    assert text.startswith("…\xa0") and text.endswith("\xa0…") and len(text) < 320 and "cold" not in text


def test_the_field_becomes_the_marked_text_and_can_be_edited_again(open_page):
    page, context = open_page(), "\n".join([TOWER, *["The sea was grey. " * 20] * 30, "The end."])
    ask(page, QUESTION, context)
    expect(page.locator("mark")).to_contain_text("Maren Holt")
    assert page.locator("body").inner_text().count("The end.") == 1
    height = page.locator("#text").evaluate("text => text.scrollHeight")
    page.locator("#text").evaluate("text => { text.scrollTop = 200; }")
    page.get_by_role("button", name="Edit the text").click()
    field = page.get_by_label("Text", exact=True)
    expect(field).to_be_focused()
    assert field.input_value() == context
    assert field.evaluate("field => [field.scrollHeight, field.scrollTop]") == [height, 200]  # nothing moves
    expect(page.locator("#result")).to_be_hidden()
    expect(page.locator("#text")).to_be_hidden()


def test_another_question_needs_no_editing(open_page):
    page = open_page()
    page.get_by_role("button", name="A short story").click()
    expect(page.locator("mark")).to_have_text("Maren Holt")
    page.get_by_label("Question").fill("What was the dog called?")
    page.keyboard.press("Enter")
    expect(page.locator("mark")).to_have_text("Bris")


def test_everything_is_in_sight_after_an_answer(open_page):
    page = open_page(viewport={"width": 1280, "height": 800})
    page.get_by_role("button", name="A long text").click()
    for part in ("#question", "#verdict", "#sentence", "mark"):
        expect(page.locator(part)).to_be_in_viewport(ratio=1)
    assert page.evaluate("scrollY") == 0
    sizes = page.evaluate(
        "[...document.body.querySelectorAll('*')].map(e => [parseFloat(getComputedStyle(e).fontSize), e.localName])"
    )
    assert max(sizes)[1] == "strong" and sum(size == max(sizes)[0] for size, _ in sizes) == 1
    page = open_page(**PHONE)
    page.get_by_role("button", name="A long text").click()
    expect(page.locator("#verdict")).to_be_in_viewport(ratio=1)
    expect(page.locator("#sentence")).to_be_in_viewport(ratio=1)
    tops = [page.locator(part).bounding_box()["y"] for part in ("#question", "#verdict", "#text")]
    assert tops == sorted(tops)


def test_words_tell_their_probabilities_to_pointer_and_keyboard(open_page):
    page = open_page()
    ask(page, QUESTION, TOWER)
    for word, bar, share in (("Maren", "--starts", 95), ("Holt", "--ends", 95)):
        style = page.locator("mark .word", has_text=word).evaluate(f"word => word.style.getPropertyValue('{bar}')")
        assert style.endswith("%") and float(style[:-1]) == pytest.approx(share, abs=5)
    page.locator("mark .word").first.hover()
    shown = page.locator("#probability")
    expect(shown).to_contain_text("“Maren”: starts the answer 9")
    page.keyboard.press("Escape")
    expect(shown).to_be_hidden()
    page.locator("#text").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#spoken")).to_contain_text("“Maren”: starts the answer 9")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#spoken")).to_contain_text("“Holt”: starts the answer 0.")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#spoken")).to_contain_text("“Maren”")


def test_a_word_that_was_not_read_has_no_probability(open_page):
    page = open_page()
    ask(page, "Who was the harbour master?", "The harbour master was Ove Lind.\n\n" + "The sea was grey. " * 1000)
    expect(page.locator("mark")).to_have_text("Ove Lind")
    expect(page.locator("#extent")).to_have_text("The 8 passages that fit best were read.")
    page.locator("#text").hover()
    expect(page.locator("#probability")).to_be_hidden()


def test_a_finger_is_told_too(open_page):
    page = open_page(has_touch=True)
    ask(page, QUESTION, TOWER)
    page.locator("mark .word").first.tap()
    expect(page.locator("#probability")).to_contain_text("“Maren”: starts the answer 9")


def test_keys_of_the_browser_stay_its_own(open_page):
    page = open_page()
    ask(page, QUESTION, TOWER)
    expect(page.get_by_role("heading", name="Answer")).to_be_focused()
    page.locator("#text").focus()
    page.evaluate("addEventListener('keydown', (event) => { document.title = String(event.defaultPrevented); })")
    page.keyboard.press("Control+ArrowLeft")
    expect(page).to_have_title("false")
    page.keyboard.press("ArrowLeft")
    expect(page).to_have_title("true")


def test_a_giant_word_does_not_fill_the_page(open_page):
    page = open_page(viewport={"width": 800, "height": 700})
    ask(page, "What is it?", "It is " + "x" * 5000)
    expect(page.locator("mark")).to_contain_text("x" * 5000)
    assert page.locator("#sentence").bounding_box()["height"] < 500
    page.locator("mark .word").last.hover(position={"x": 5, "y": 5})
    assert len(page.locator("#probability").inner_text()) < 300


def test_all_of_it_can_be_done_with_the_keyboard(open_page):
    page = open_page()
    focused = page.locator(":focus")
    for name in ("Question", "Find the answer", "Open a file", "Text", *EXAMPLES):
        page.keyboard.press("Tab")
        assert focused.evaluate("e => e.labels?.[0]?.textContent ?? e.textContent") == name
        if name == "Question":
            page.keyboard.type(QUESTION)
        if name == "Text":
            page.keyboard.type(TOWER)
    for _ in range(len(EXAMPLES) + 2):
        page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.locator("mark")).to_have_text("Maren Holt")
    for name in ("Copy link", "Open a file", "Edit the text"):
        page.keyboard.press("Tab")
        expect(focused).to_have_text(name)
    page.keyboard.press("Enter")
    expect(page.get_by_label("Text", exact=True)).to_be_focused()


def test_control_enter_in_the_text_asks(open_page):
    page = open_page()
    expect(page.get_by_text("Press Enter to ask (Ctrl+Enter in the text)")).to_be_visible()
    page.get_by_label("Question").fill(QUESTION)
    page.get_by_label("Text", exact=True).fill(TOWER)
    page.keyboard.press("Control+Enter")
    expect(page.locator("mark")).to_have_text("Maren Holt")


def test_a_phone_is_told_of_no_keys(open_page):
    page = open_page(**PHONE)
    page.get_by_role("button", name="A short story").tap()
    expect(page.locator("mark")).to_have_text("Maren Holt")
    assert page.locator("#context").get_attribute("placeholder") == "Paste a text here, or open a .txt or .md file."
    assert "Enter" not in page.locator("body").inner_text() and "→" not in page.locator("body").inner_text()


def test_the_examples_have_their_answers(open_page):
    page = open_page()
    assert page.locator("#examples button").all_inner_texts() == list(EXAMPLES)
    for name, answer in EXAMPLES.items():
        page.get_by_role("button", name=name).click()
        heading = f"Answer {answer}" if answer else "Probably not in this text"
        expect(page.get_by_role("heading", name=heading)).to_be_focused()
    assert len(page.locator("#text").text_content().split()) > 600


def test_nothing_is_left_behind(open_page, url):
    page = open_page()
    before = page.evaluate("history.length")
    ask(page, QUESTION, TOWER)
    expect(page.locator("mark")).to_have_text("Maren Holt")
    page.get_by_role("button", name="Copy link").click()
    expect(page.locator("#copied")).not_to_have_text("")
    assert page.url == f"{url}/"
    assert page.evaluate("[history.length, localStorage.length, sessionStorage.length, document.cookie]") == [
        before,
        0,
        0,
        "",
    ]


def test_a_link_asks_its_question_and_leaves_the_address_bar(open_page, url):
    context = "Fog & wind + rain = 100 %.\n# Maren Holt kept the log. \U0001f56f ü"
    fragment = "#" + urlencode({"question": QUESTION, "context": context})
    page = open_page(fragment)
    expect(page.locator("mark")).to_have_text("Maren Holt")
    assert page.locator("#text").text_content() == context and page.url == f"{url}/"
    page.goto(
        f"{url}/#" + urlencode({"question": "Who was late?", "context": "Ove Lind was late."})
    )  # in the same page
    expect(page.locator("mark")).to_have_text("Ove Lind")
    assert page.url == f"{url}/"


def test_the_link_can_be_copied(open_page):
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    ask(page, QUESTION, TOWER)
    expect(page.locator("mark")).to_have_text("Maren Holt")
    page.get_by_role("button", name="Copy link").click()
    expect(page.locator("#copied")).to_have_text("Copied.")
    link = page.evaluate("navigator.clipboard.readText()")
    again = open_page(link[link.index("#") :])
    expect(again.locator("mark")).to_have_text("Maren Holt")
    expect(again.locator("#text")).to_have_text(TOWER)


def test_a_link_that_cannot_be_copied_is_shown(open_page, url):
    page = open_page(permissions=[])
    ask(page, QUESTION, TOWER)
    expect(page.locator("mark")).to_have_text("Maren Holt")
    page.get_by_role("button", name="Copy link").click()
    link = page.get_by_label("Link to copy")
    expect(link).to_be_focused()
    assert link.input_value() == f"{url}/#{urlencode({'question': QUESTION, 'context': TOWER})}"
    assert link.evaluate("link => link.selectionEnd") == len(link.input_value())


def test_a_document_too_long_for_a_link_has_none(open_page):
    page = open_page()
    ask(page, "Who was the harbour master?", "The harbour master was Ove Lind. " + " " * 40_000)
    expect(page.locator("mark")).to_have_text("Ove Lind")
    page.get_by_role("button", name="Copy link").click()
    expect(page.locator("#copied")).to_have_text("This text is too long for a link.")


def test_characters_beyond_16_bits_do_not_shift_the_mark(open_page):
    page = open_page()
    ask(page, QUESTION, "\U0001f56f\U0001f56f " + TOWER)
    expect(page.locator("mark")).to_have_text("Maren Holt")
    expect(page.locator("#sentence strong")).to_have_text("Maren Holt")
    expect(page.locator("mark .word")).to_have_text(["Maren", "Holt"])


def test_html_in_a_text_stays_text(open_page):
    page = open_page()
    context = "<img src=x onerror=alert(1)> <b>Maren Holt</b> kept the log.<script>alert(2)</script> &amp;"
    ask(page, QUESTION, context)
    expect(page.locator("#text")).to_have_text(context)
    expect(page.locator("mark")).to_contain_text("Maren Holt")
    expect(page.locator("main :is(img, b, script)")).to_have_count(0)


def test_a_long_document_is_scrolled_to_its_answer(open_page):
    page = open_page()
    sea = "The sea was grey. " * 150
    context = f"{sea}The harbour master was Ove Lind. {sea}{' ' * 12_600}"
    ask(page, "Who was the harbour master?", context)
    expect(page.locator("mark")).to_have_text("Ove Lind")
    inside = (
        "(b => m => m.top >= b.top && m.bottom <= b.bottom)(document.getElementById('text').getBoundingClientRect())"
    )
    assert page.evaluate(f"{inside}(document.querySelector('mark').getBoundingClientRect())")
    assert page.locator("#text").evaluate("text => text.textContent") == context


def test_the_answer_to_the_last_question_is_shown(open_page):
    page, routes, ended = open_page(), [], []
    page.route("**/search", lambda route: route.continue_() if routes else routes.append(route))
    for event in ("requestfinished", "requestfailed"):
        page.on(event, lambda request: ended.append(request))
    ask(page, "Who was the harbour master?", "The sea was grey. " * 300)
    ask(page, QUESTION, TOWER)
    expect(page.locator("mark")).to_have_text("Maren Holt")
    expect(page.locator("#reading")).to_be_hidden()
    routes[0].continue_()
    wait_until(lambda: page.wait_for_timeout(20) or routes[0].request in ended)
    page.wait_for_timeout(100)  # for what may come of the first
    expect(page.locator("#text")).to_have_text(TOWER)


def test_what_takes_long_shows_progress_and_can_be_cancelled(open_page):
    page, routes, ended = open_page(), [], []
    page.route("**/search", lambda route: routes.append(route))  # and no answer
    page.on("requestfailed", lambda request: ended.append(request))
    page.clock.install(time=0)
    page.clock.pause_at(60_000)  # or a busy machine would be slower than what follows
    ask(page, QUESTION, TOWER * 1500)
    page.clock.run_for(300)
    expect(page.locator("#reading")).to_be_hidden()  # a quick answer does not make the page flicker
    page.clock.run_for(1000)
    doing = "Reading the 8 passages that fit best, of about 12,000 words …"
    expect(page.get_by_role("progressbar", name=doing)).to_be_visible()
    expect(page.locator("#spoken")).to_have_text(doing)
    expect(page.locator("#seconds")).to_have_text("1 s")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#reading")).to_be_hidden()
    expect(page.get_by_role("alert")).to_be_hidden()
    expect(page.get_by_label("Question", exact=True)).to_be_focused()
    expect(page.get_by_label("Text", exact=True)).to_be_visible()
    wait_until(lambda: ended or page.wait_for_timeout(50))
    assert [request.url.rpartition("/")[2] for request in ended] == ["search"]  # so the service drops it


def test_a_text_that_is_edited_meanwhile_is_not_answered(open_page):
    page, ended = open_page(), []
    page.route("**/search", lambda route: None)  # and no answer
    page.on("requestfailed", lambda request: ended.append(request))
    ask(page, QUESTION, TOWER)
    expect(page.locator("#reading")).to_be_visible()
    page.get_by_label("Text", exact=True).press_sequentially("x")
    expect(page.locator("#reading")).to_be_hidden()
    expect(page.get_by_role("alert")).to_be_hidden()
    wait_until(lambda: ended or page.wait_for_timeout(50))


# what goes wrong


REFUSALS = {
    408: "The text took too long to arrive. Try again, or try a shorter text.",
    413: "This text is too long: at most 2 MB can be sent.",
    422: "This question or text cannot be read.",
    500: "The service failed on this question. Its log says why.",
    502: "The service cannot be reached: something between it and this page answered with status 502.",
    503: "The service is busy. Try again in a moment.",
}


def test_a_refusal_is_said_in_words_of_the_page(chromium, url):
    page = chromium.new_page()
    page.goto(url)
    ask(page, QUESTION, TOWER)
    expect(page.locator("mark")).to_be_visible()
    page.route("**/search", lambda route: route.fulfill(status=status, content_type="text/html", body="<h1>No</h1>"))
    for status in REFUSALS:
        page.get_by_role("button", name="Find the answer").click()
        expect(page.get_by_role("alert")).to_have_text(REFUSALS[status])
        expect(page.locator("#result")).to_be_hidden()
        expect(page.get_by_label("Text", exact=True)).to_have_value(TOWER)
    page.unroute("**/search")
    page.get_by_role("button", name="Find the answer").click()
    expect(page.locator("mark")).to_be_visible()
    expect(page.get_by_role("alert")).to_be_hidden()
    page.close()


def test_a_text_beyond_the_limit_is_said_to_be(chromium, url):
    page = chromium.new_page()
    page.goto(url)
    ask(page, QUESTION, "\U0001f56f" + "a" * 500_000)
    said = "This text is too long: it has 500,001 characters, and at most 500,000 can be searched."
    expect(page.get_by_role("alert")).to_have_text(said)
    page.close()


def test_an_empty_field_is_named(open_page):
    page = open_page()
    for question, context, said, field in (
        (" ", TOWER, "Enter a question.", "Question"),
        (QUESTION, "\n", "Enter a text, or try an example.", "Text"),
    ):
        ask(page, question, context)
        expect(page.get_by_role("alert")).to_have_text(said)
        expect(page.get_by_label(field, exact=True)).to_be_focused()


def test_a_service_that_has_ended_is_said(chromium):
    with running() as (address, process):
        page = chromium.new_page()
        page.goto(address)
        process.kill()
        process.wait()
        ask(page, QUESTION, TOWER)
        expect(page.get_by_role("alert")).to_have_text("The service cannot be reached. Is it still running?")
        page.close()


# files


def choose(page, name, content):
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Open a file").click()
    chooser.value.set_files({"name": name, "mimeType": "text/plain", "buffer": content})


def test_a_file_is_opened_whatever_its_line_breaks(open_page):
    page, content = open_page(), "\ufeffFog.\r\n\r\nü \U0001f56f\r\n" + TOWER
    page.get_by_role("button", name="Not in the text").click()
    expect(page.locator("#result")).to_be_visible()
    choose(page, "Log.TXT", content.encode())
    expect(page.locator("#file")).to_have_text("Log.TXT")
    expect(page.get_by_label("Question")).to_be_focused()
    page.get_by_label("Question").fill(QUESTION)
    page.keyboard.press("Enter")
    expect(page.locator("mark")).to_have_text("Maren Holt")
    assert page.locator("#text").text_content() == content[1:].replace("\r\n", "\n")
    page.get_by_role("button", name="Edit the text").click()
    page.keyboard.type("x")
    expect(page.locator("#file")).to_have_text("")  # it is no longer what the file holds


def test_a_file_can_be_dropped_anywhere(open_page):
    page = open_page()
    drag = """([kind, name]) => {
      const dataTransfer = new DataTransfer();
      dataTransfer.items.add(new File(["Maren Holt kept the log."], name));
      const event = new DragEvent(kind, { dataTransfer, bubbles: true, cancelable: true });
      document.querySelector("h1").dispatchEvent(event);
      return [event.defaultPrevented, getComputedStyle(document.getElementById("pane"), "::after").content];
    }"""
    target = '"Drop a .txt or .md file"'
    assert "drop a .txt or .md file" in page.get_by_label("Text", exact=True).get_attribute("placeholder")
    assert page.evaluate(drag, ["dragover", "log.md"]) == [True, target]
    assert page.evaluate(drag, ["dragleave", "log.md"]) == [False, "none"]
    assert page.evaluate(drag, ["dragover", "log.md"]) == [True, target]
    assert page.evaluate(drag, ["drop", "log.md"]) == [True, "none"]
    expect(page.locator("#file")).to_have_text("log.md")
    expect(page.get_by_label("Text", exact=True)).to_have_value("Maren Holt kept the log.")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.pdf", b"%PDF", "a.pdf is not a .txt or .md file."),
        ("a.txt", "Zürich".encode("latin-1"), "a.txt is not text in UTF-8. Save it in UTF-8 and open it again."),
        ("a.txt", b" " * 2_000_001, "a.txt is too large: at most 2 MB can be sent."),
        (
            "a.md",
            b"a" * 500_001,
            "a.md is too long: it has 500,001 characters, and at most 500,000 can be searched.",
        ),
    ],
)
def test_another_file_is_refused_and_changes_nothing(open_page, name, content, said):
    page = open_page()
    page.get_by_label("Text", exact=True).fill(TOWER)
    choose(page, name, content)
    expect(page.get_by_role("alert")).to_have_text(said)
    expect(page.get_by_label("Text", exact=True)).to_have_value(TOWER)


# the rest


def test_the_footer_leads_to_the_api_and_to_what_the_package_names(open_page, url, shallow, monkeypatch, tmp_path):
    info = tmp_path / "numpy_distilbert-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Name: numpy-distilbert\n"
        "Project-URL: Documentation, https://a.example/docs\n"
        "Project-URL: Source, https://a.example\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    with in_a_thread(shallow) as address:
        page = open_page(url=address)
        links = page.locator("#links a")
        expect(links).to_have_text(["Documentation", "Source"])
        assert [link.get_attribute("href") for link in links.all()] == ["https://a.example/docs", "https://a.example"]
        page.get_by_text("API").click()
        expect(page.locator("#call")).to_contain_text(f'curl {address}/search -d \'{{"inputs"')
        expect(page.locator("#model")).to_have_text("mine")


def test_it_fits_and_can_be_read(open_page):
    page = open_page()
    page.get_by_role("button", name="A contract").click()
    page.locator("#others button").click()
    page.get_by_text("API").click()
    for width in (320, 390, 1280):
        page.set_viewport_size({"width": width, "height": 700})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
            assert page.evaluate(CONTRASTS) == [], scheme
    ask(page, QUESTION, TOWER + " " + "x" * 300)
    expect(page.locator("mark")).to_have_text("Maren Holt")
    page.set_viewport_size({"width": 320, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


# Every element with text of its own, whose contrast with what lies behind it is below WCAG 2.1's 4.5 to 1.
CONTRASTS = """() => {
  const rgb = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => {
    const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = rgb(colour).map((c) => linear(c / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    const colour = getComputedStyle(element).backgroundColor;
    return rgb(colour)[3] === 0 ? behind(element.parentElement) : colour;
  };
  const low = [];
  for (const element of document.body.querySelectorAll("*")) {
    if (![...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim())) continue;
    const [a, b] = [light(getComputedStyle(element).color), light(behind(element))].sort((a, b) => b - a);
    if ((a + 0.05) / (b + 0.05) < 4.5) low.push([element.outerHTML, (a + 0.05) / (b + 0.05)]);
  }
  return low;
}"""
