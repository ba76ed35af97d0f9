"""The page of the service, in a real browser."""

import shutil

import pytest

pytest.importorskip("playwright", reason="needs the extra 'test'")
pytest.importorskip("uvicorn", reason="needs the extra 'serve'")

from playwright.sync_api import expect, sync_playwright
from test_service import TOWER, held, running, wait_until

expect.set_options(timeout=60_000)  # milliseconds; a busy machine is no failure
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, as Debian's package chromium installs it")
QUESTION = "Who kept the log?"


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

    def opened(fragment="", **options):
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
    page.get_by_label("Question").fill(question)
    page.get_by_label("Text", exact=True).fill(context)
    page.get_by_role("button", name="Find the answer").click()


def test_a_question_has_its_answer_marked_in_the_text(open_page, embedded):
    page = open_page()
    ask(page, QUESTION, TOWER)
    expect(page.locator("mark")).to_have_text("Maren Holt")
    expect(page.locator("#text")).to_have_text(TOWER)
    expect(page.get_by_role("heading", name="Answer: Maren Holt")).to_be_focused()
    expected = embedded.search(QUESTION, TOWER)
    rows = page.get_by_role("listitem")
    expect(rows).to_have_count(3)
    for i, answer in enumerate(expected):
        expect(rows.nth(i).locator(".answer")).to_have_text(answer["answer"])
        width = float(rows.nth(i).locator(".bar span").evaluate("bar => parseFloat(bar.style.width)"))
        assert width == pytest.approx(100 * answer["score"], abs=0.01)
    expect(rows.first.locator(".score")).to_have_text(f"{expected[0]['score']:.1%}".replace("%", " %"))


def test_a_text_that_does_not_answer_is_said_not_to(open_page, embedded):
    page, question, context = open_page(), "How many people live in Turin?", "Turin."
    assert embedded.search(question, context).best is None
    ask(page, question, context)
    expect(page.get_by_role("heading", name="Probably not in this text")).to_be_focused()
    expect(page.locator("mark")).to_contain_text("Turin")
    ask(page, question, "\0")
    expect(page.get_by_role("listitem")).to_have_count(0)
    expect(page.get_by_role("heading", name="Probably not in this text")).to_be_visible()


def test_another_answer_is_marked_when_it_is_chosen(open_page):
    page = open_page()
    ask(page, QUESTION, TOWER)
    second = page.get_by_role("listitem").nth(1).get_by_role("button")
    expect(second).to_have_attribute("aria-pressed", "false")
    second.click()
    expect(second).to_have_attribute("aria-pressed", "true")
    expect(page.locator("mark")).to_have_text(second.locator(".answer").inner_text())


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
    assert page.locator("#best").bounding_box()["height"] < 300
    page.locator("mark .word").last.hover(position={"x": 5, "y": 5})
    assert len(page.locator("#probability").inner_text()) < 300


def test_all_of_it_can_be_done_with_the_keyboard(open_page):
    page = open_page()
    for name in ("Try an example.", "Question", "Text", "Find the answer"):
        page.keyboard.press("Tab")
        focused = page.locator(":focus")
        assert focused.evaluate("e => e.labels?.[0]?.textContent ?? e.textContent") == name
        if name == "Question":
            page.keyboard.type(QUESTION)
        if name == "Text":
            page.keyboard.type(TOWER)
    page.keyboard.press("Enter")
    expect(page.locator("mark")).to_have_text("Maren Holt")


def test_control_enter_in_the_text_asks(open_page):
    page = open_page()
    page.get_by_label("Question").fill(QUESTION)
    page.get_by_label("Text", exact=True).fill(TOWER)
    page.keyboard.press("Control+Enter")
    expect(page.locator("mark")).to_have_text("Maren Holt")


def test_a_link_holds_the_question_and_the_text(open_page):
    page = open_page()
    context = "Fog & wind + rain = 100 %.\n# Maren Holt kept the log. \U0001f56f ü"
    ask(page, QUESTION, context)
    expect(page.locator("mark")).to_have_text("Maren Holt")
    again = open_page(page.url[page.url.index("#") :])
    expect(again.locator("mark")).to_have_text("Maren Holt")
    assert again.get_by_label("Text", exact=True).input_value() == context


def test_the_link_can_be_copied(open_page, url):
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    ask(page, QUESTION, TOWER)
    expect(page.locator("mark")).to_have_text("Maren Holt")
    page.get_by_role("button", name="Copy a link").click()
    expect(page.locator("#state")).to_have_text("Copied.")
    assert page.evaluate("navigator.clipboard.readText()") == page.url


def test_the_example_works(open_page):
    page = open_page()
    for _ in range(2):  # also when the fields have been edited since
        page.get_by_role("link", name="Try an example.").click()
        expect(page.get_by_label("Question")).to_have_value(QUESTION)
        expect(page.locator("mark")).to_have_text("Maren Holt")
        page.get_by_label("Question").fill("edited")


def test_characters_beyond_16_bits_do_not_shift_the_mark(open_page):
    page = open_page()
    ask(page, QUESTION, "\U0001f56f\U0001f56f " + TOWER)
    expect(page.locator("mark")).to_have_text("Maren Holt")
    expect(page.locator("mark .word")).to_have_text(["Maren", "Holt"])


def test_html_in_a_text_stays_text(open_page):
    page = open_page()
    context = "<img src=x onerror=alert(1)> <b>Maren Holt</b> kept the log.<script>alert(2)</script> &amp;"
    ask(page, QUESTION, context)
    expect(page.locator("#text")).to_have_text(context)
    expect(page.locator("#text img, #text b, #text script")).to_have_count(0)
    expect(page.locator("mark")).to_contain_text("Maren Holt")


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
    page.get_by_role("listitem").first.get_by_role("button").click()
    expect(page.locator("mark")).to_be_in_viewport()
    expect(page.get_by_role("button", name="Copy a link")).to_be_visible()  # 18,000 characters are no trouble
    assert page.locator("#text").evaluate("text => text.textContent") == context


def test_the_answer_to_the_last_question_is_shown(open_page, url):
    page = open_page()
    ask(page, "Who was the harbour master?", "The sea was grey. " * 300)
    ask(page, QUESTION, TOWER)
    expect(page.locator("mark")).to_have_text("Maren Holt")
    expect(page.locator("#state")).to_have_text("")
    wait_until(lambda: held(url) == 0)
    page.wait_for_timeout(100)  # for what may come of the first
    expect(page.locator("#text")).to_have_text(TOWER)


def test_a_document_too_long_for_a_link_has_none(open_page):
    page = open_page()
    ask(page, "Who was the harbour master?", "The harbour master was Ove Lind. " + " " * 40_000)
    expect(page.locator("mark")).to_have_text("Ove Lind")
    assert "#" not in page.url
    page.get_by_role("button", name="Copy a link").click()
    expect(page.locator("#state")).to_have_text("This text is too long for a link.")


def test_what_the_service_refuses_is_said(chromium, url):
    page = chromium.new_page()
    page.goto(url)
    ask(page, QUESTION, TOWER)
    expect(page.locator("mark")).to_be_visible()
    ask(page, QUESTION, "a" * 500_001)
    expect(page.get_by_role("alert")).to_have_text("context has 500001 characters, at most 500000 are taken.")
    expect(page.locator("#result")).to_be_hidden()
    ask(page, QUESTION, TOWER)
    expect(page.locator("mark")).to_be_visible()
    expect(page.get_by_role("alert")).to_be_hidden()
    page.close()


def test_what_a_proxy_says_is_said(chromium, url):
    page = chromium.new_page()
    page.goto(url)
    page.route(
        "**/search", lambda route: route.fulfill(status=502, content_type="text/html", body="<h1>Bad gateway</h1>")
    )
    ask(page, QUESTION, TOWER)
    expect(page.get_by_role("alert")).to_have_text("Something between this page and the service answered 502.")
    page.close()


def test_a_service_that_has_ended_is_said(chromium):
    with running() as (address, process):
        page = chromium.new_page()
        page.goto(address)
        process.kill()
        process.wait()
        ask(page, QUESTION, TOWER)
        expect(page.get_by_role("alert")).to_have_text("The service cannot be reached.")
        page.close()


def test_it_fits_and_can_be_read(open_page):
    page = open_page()
    ask(page, QUESTION, TOWER + " " + "x" * 300)
    expect(page.locator("mark")).to_have_text("Maren Holt")
    for width in (320, 390, 1280):
        page.set_viewport_size({"width": width, "height": 700})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
            assert page.evaluate(CONTRASTS) == [], scheme


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
