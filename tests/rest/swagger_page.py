"""The page /docs in Chromium. Importing selenium takes half a second."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys


class Page:
    """The page in a browser."""

    def __init__(self, browser: Chrome, url: str) -> None:
        self._browser = browser
        browser.get(url)

    def call(self, rpc: str, body: dict[str, str] | None = None) -> tuple[str, Any]:
        """Make a call as a person would, and return its status and response body."""
        operation = self._browser.find_element(By.ID, f"operations-users-{rpc}")
        if "is-open" not in str(operation.get_attribute("class")):
            operation.find_element(By.CLASS_NAME, "opblock-summary-control").click()
        if body is not None:
            editor = operation.find_element(By.CLASS_NAME, "body-param__text")
            editor.send_keys(Keys.CONTROL, "a")
            self._browser.execute_cdp_cmd("Input.insertText", {"text": json.dumps(body)})  # typing is slow
        operation.find_element(By.CLASS_NAME, "execute").click()
        answer = operation.find_element(By.CSS_SELECTOR, ".live-responses-table .response")
        said = answer.find_element(By.CLASS_NAME, "response-col_status").text
        shown = json.loads(answer.find_element(By.CSS_SELECTOR, ".highlight-code code").text)
        operation.find_element(By.CLASS_NAME, "btn-clear").click()
        return said, shown


@contextmanager
def opened_browser(browser: str, driver: str) -> Iterator[Chrome]:
    """Start the browser at this path with its driver, and end it."""
    options = ChromeOptions()
    options.binary_location = browser
    for argument in ("--headless", "--no-sandbox", "--window-size=800,600", "--disable-gpu"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with Chrome(options, ChromeService(driver)) as opened:
        opened.implicitly_wait(60)
        yield opened
