"""The runs of a logic, one after the other."""

import qt
from slicer.i18n import tr as _


class RunQueue:
    """Starts each run when the one before it has ended.

    Attributes
    ----------
    runs : list of Run
        In the order in which they were added; those that have ended stay until they are removed.
    onChanged : callable
        Called when a run was added, started, ended or removed.
    onRunChanged : callable
        Called with a run, whoever has started it, whenever it has something new.
    onIdle : callable
        Called when the last run has ended and none waits.
    """

    def __init__(self):
        self.runs = []
        self.onChanged = lambda: None
        self.onRunChanged = lambda run: None
        self.onIdle = lambda: None
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(0)
        self._timer.connect("timeout()", self._startNext)

    @property
    def running(self):
        """The run whose worker is at work; None if there is none."""
        return next((run for run in self.runs if run.state.active), None)

    @property
    def waiting(self):
        return [run for run in self.runs if run.waiting]

    def add(self, run):
        """Start a run, or let it wait for its turn."""
        self.runs.append(run)
        run.onNews = lambda run: self.onRunChanged(run)
        run.onEnded = self._onEnded
        if self.running or self.waiting[0] is not run:
            run.wait(_("Waits for its turn."))
        else:
            run.start()
        self.onChanged()

    def remove(self, run):
        """Forget a run; one that has not ended is stopped first."""
        run.stop(_("Removed from the queue."))
        if run in self.runs:
            self.runs.remove(run)
        self.onChanged()

    def stopAll(self, message):
        """Stop every run, those that wait first, and forget them."""
        for run in [*self.waiting, *self.runs]:
            run.stop(message)
        self._timer.stop()
        self.runs = []
        self.onChanged()

    def _onEnded(self, run):
        # Not at once: the next one must not start while, say, the scene is being closed under this one.
        self._timer.start()
        if not self.running and not self.waiting:
            self.onIdle()
        self.onChanged()

    def _startNext(self):
        if not self.running and self.waiting:
            self.waiting[0].start()
            self.onChanged()
