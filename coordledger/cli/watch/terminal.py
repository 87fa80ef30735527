"""The screen of `watch`: curses in a thread of its own, so that keys are answered while the remote
is asked.

Rules of this file:
- The main thread reads the ledger, and it alone hears signals: what ends the program, ^C and
  SIGTERM as ever, ends it there. A `q` ends what it is at as ^C does. ^Z stops it, `fg` goes on.
- Whatever ends it, the terminal is given back before anything is printed.
- curses sends what has changed and nothing else. It is drawn once a second, and when there is
  something new.
- Colours are those of the terminal; its own foreground and background stay.
"""

from __future__ import annotations

import contextlib
import curses
import os
import select
import signal
import sys
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from coordledger.errors import CoordledgerError, error

from .frame import Opened, frame, is_stale, text_lines
from .keys import HELD, MAIN, QUIT, REFRESH, TASK, Ui, press
from .rows import panels_of
from .spans import BAD, BOLD, CHOSEN, DIM, GOOD, HEAD, LITTLE, WARN, glyphs_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import FrameType
    from typing import Any

    from coordledger.client.claims import Claim
    from coordledger.client.watching import Watched, Watching

    from .frame import Fetch, Line
    from .keys import Panel

_KEYS = {
    curses.KEY_UP: "up", curses.KEY_DOWN: "down", curses.KEY_LEFT: "left",
    curses.KEY_RIGHT: "right", curses.KEY_HOME: "home", curses.KEY_END: "end",
    curses.KEY_PPAGE: "page-up", curses.KEY_NPAGE: "page-down", curses.KEY_ENTER: "enter",
    curses.KEY_BACKSPACE: "backspace", curses.KEY_BTAB: "back-tab",
}  # fmt: skip
_CHARACTERS = {"\n": "enter", "\r": "enter", "\t": "tab", "\x1b": "escape"}
_CHARACTERS |= {"\x7f": "backspace", "\b": "backspace"}
_ESCAPE_DELAY = 25  # ms that what follows ESC may take: an arrow key's rest comes at once
# Ink and paper; -1 is the terminal's own. Warnings are blocks, which are seen on light and dark.
_PAIRS = {
    GOOD: (curses.COLOR_GREEN, -1),
    LITTLE: (curses.COLOR_YELLOW, -1),
    WARN: (curses.COLOR_BLACK, curses.COLOR_YELLOW),
    BAD: (curses.COLOR_WHITE, curses.COLOR_RED),
}
_ATTRIBUTES = {
    BOLD: curses.A_BOLD, DIM: curses.A_DIM, HEAD: curses.A_REVERSE, CHOSEN: curses.A_REVERSE,
    WARN: curses.A_BOLD, BAD: curses.A_BOLD,
}  # fmt: skip


class _Scene(NamedTuple):
    """What is to be drawn; the tables in it, how many lines a page has, and the last line that a
    text can begin with.
    """

    lines: list[Line]
    panels: Mapping[str, Panel]
    height: int
    last: int


class Terminal:
    """What is on the terminal, and who is typing there."""

    def __init__(
        self,
        watched: Watched,
        fetch: Fetch,
        ui: Ui,
        aside: Watching,
        *,
        colours: bool,
    ) -> None:
        """`aside` reads the copy in the screen's thread."""
        self._shown = (watched, fetch)  # replaced as one: another thread reads it
        self._ui, self._aside, self._colours = ui, aside, colours
        self._opened: tuple[Any, Opened | None] = (None, None)
        self._others: tuple[Any, Sequence[Claim]] = (None, ())
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._asked = threading.Event()  # for a reading, before its time
        self._ended = threading.Event()
        self._lock, self._is_reading = threading.Lock(), False
        self._fault: BaseException | None = None
        self._is_to_stop = False  # ^Z was pressed
        self._main = threading.main_thread()
        self._glyphs = glyphs_for(sys.stdout)
        self._attributes: dict[str, int] = {}

    # -- for the main thread

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Show it meanwhile. What goes wrong in the screen is raised at the end of the block."""
        _set_up()
        thread = threading.Thread(target=self._run, name="screen")
        heard = {signal.SIGWINCH: self._resized, signal.SIGTSTP: self._stopped}
        before = {number: signal.signal(number, hear) for number, hear in heard.items()}
        try:
            thread.start()
            yield
        except KeyboardInterrupt as ended:
            # SIGTERM's has its own exit code; ^C is a way to quit, as it is of `top`.
            if type(ended) is not KeyboardInterrupt:
                raise
        finally:
            self._ended.set()
            self._wake()
            thread.join()
            for number, hear in before.items():
                signal.signal(number, hear)
            os.close(self._wake_read)
            os.close(self._wake_write)
        if self._fault is not None:
            raise self._fault

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """What is done meanwhile is interrupted, as by ^C, when somebody quits."""
        with self._lock:
            self._is_reading = True
        try:
            yield
        finally:
            with self._lock:
                self._is_reading = False

    def show(self, watched: Watched, fetch: Fetch) -> None:
        """What was read, or that it is being read."""
        self._shown = (watched, fetch)
        self._wake()

    def wait(self, seconds: float) -> bool:
        """Until it is time for the next reading; False if somebody has quit."""
        self._asked.wait(seconds)
        self._asked.clear()
        return not self._ended.is_set()

    def _resized(self, number: int, frame: FrameType | None) -> None:
        self._wake()

    def _stopped(self, number: int, frame: FrameType | None) -> None:
        self._is_to_stop = True
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self._wake_write, b"x")

    # -- the screen's thread

    def _run(self) -> None:
        try:
            try:
                window = curses.initscr()
                self._prepare(window)
                self._loop(window)
            finally:
                with contextlib.suppress(curses.error):
                    curses.endwin()
        except BaseException as fault:  # noqa: BLE001 - it is raised in the main thread
            self._fault = fault
        self._ended.set()
        self._asked.set()
        with self._lock:
            if self._is_reading:  # the remote may be slow to answer
                signal.pthread_kill(self._main.ident or 0, signal.SIGINT)

    def _prepare(self, window: curses.window) -> None:
        curses.noecho()
        curses.cbreak()
        curses.set_escdelay(_ESCAPE_DELAY)
        window.keypad(True)
        window.nodelay(True)
        with contextlib.suppress(curses.error):
            curses.curs_set(0)
        self._attributes = dict(_ATTRIBUTES)
        with contextlib.suppress(curses.error):
            curses.start_color()
            curses.use_default_colors()
        if self._colours and curses.has_colors():
            for number, (style, (ink, paper)) in enumerate(_PAIRS.items(), 1):
                curses.init_pair(number, ink, paper)
                own = self._attributes.get(style, 0)
                self._attributes[style] = own | curses.color_pair(number)
        else:
            self._attributes |= {BAD: curses.A_REVERSE | curses.A_BOLD}

    def _loop(self, window: curses.window) -> None:
        while not self._ended.is_set():
            if self._is_to_stop:
                self._stop(window)
            scene = self._scene(window)
            self._draw(window, scene)
            now = datetime.now(UTC)
            select.select([0, self._wake_read], [], [], 1.0 - now.microsecond / 1e6)
            if not os.isatty(0):  # it is gone, and SIGHUP was ignored, as by nohup
                return
            with contextlib.suppress(BlockingIOError):
                while os.read(self._wake_read, 4096):
                    pass
            while (key := _key_of(window)) is not None:
                self._ui, asks = press(self._ui, key, scene.panels, scene.height, scene.last)
                if asks == QUIT:
                    return
                if asks == REFRESH:
                    self._asked.set()
                scene = self._scene(window)  # what the next key is about

    def _stop(self, window: curses.window) -> None:
        """Give the terminal back until somebody says `fg`."""
        self._is_to_stop = False
        curses.def_prog_mode()
        curses.endwin()
        # To this thread, which would go on for a moment while another one stops them all.
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
        curses.reset_prog_mode()
        window.clear()

    def _task(self, seq: int) -> Opened | None:
        """The task that is open, as it stands at the record `seq`."""
        ui, (known, opened) = self._ui, self._opened
        wanted = (ui.opened, seq) if ui.page == TASK else None
        if wanted != known:
            try:
                opened = Opened(*self._aside.describe(ui.opened)) if wanted else None
            except CoordledgerError as fault:
                opened = Opened(None, (), fault.message)
            self._opened = (wanted, opened)
        return opened

    def _tasks(self, seq: int) -> Sequence[Claim]:
        """The tasks that were asked for beside those that are held."""
        ui, (known, claims) = self._ui, self._others
        wanted = (ui.wanted, seq) if ui.wanted != HELD else None
        if wanted != known:
            with contextlib.suppress(CoordledgerError):
                claims = self._aside.tasks(ui.wanted) if wanted else ()
            self._others = (wanted, claims)
        return claims

    def _scene(self, window: curses.window) -> _Scene:
        with contextlib.suppress(OSError):
            columns, lines = os.get_terminal_size(1)
            # A terminal that does not know its size has none: curses knows what such ones have.
            if columns and lines and (lines, columns) != window.getmaxyx():
                curses.resizeterm(lines, columns)
                window.clear()
        lines, columns = window.getmaxyx()
        (watched, fetch), now, ui = self._shown, datetime.now(UTC), self._ui
        stale, seq = is_stale(watched, fetch, now), watched.status.seq
        others, opened = self._tasks(seq), self._task(seq)
        panels = panels_of(watched, ui, now, self._glyphs, others=others, is_stale=stale)
        size = (columns, lines)
        made = frame(watched, panels, ui, fetch, now, size, self._glyphs, opened)
        height, last = max(1, lines - 6), 0
        if ui.page != MAIN:
            last = max(0, len(text_lines(watched, ui, now, columns, opened)) - height)
        return _Scene(made, panels, height, last)

    def _draw(self, window: curses.window, scene: _Scene) -> None:
        window.erase()
        for y, line in enumerate(scene.lines):
            x = 0
            for span in line:
                with contextlib.suppress(curses.error):  # the last cell of the last line
                    window.addstr(y, x, span.text, self._attributes.get(span.style, 0))
                x = window.getyx()[1]
        window.refresh()


def _key_of(window: Any) -> str | None:
    """The next key, if one was pressed: a name, or a character."""
    try:
        key = window.get_wch()
    except curses.error:
        return None
    if isinstance(key, int):
        return _KEYS.get(key, "unknown")
    return _CHARACTERS.get(key, str(key))


def _set_up() -> None:
    """Know the terminal. One that this machine has not heard of is mostly like xterm."""
    import locale  # noqa: PLC0415

    with contextlib.suppress(locale.Error):
        locale.setlocale(locale.LC_CTYPE, "")
    for term in (os.environ.get("TERM", ""), "xterm-256color", "xterm", "vt100"):
        try:
            curses.setupterm(term or "dumb", 1)
        except curses.error:
            continue
        os.environ["TERM"] = term  # curses reads it there
        if curses.tigetstr("cup"):
            return
        break
    raise error("no-terminal")
