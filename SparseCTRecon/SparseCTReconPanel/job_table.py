"""The table of the jobs: what each makes, where it stands, and a button to cancel or remove it."""

import qt
from slicer.i18n import tr as _

from SparseCTReconLib.jobs.client import JobState

LONGEST = 6
"""Rows that are seen at once."""


class JobTable:
    """Shows the runs of a queue in a QTableWidget.

    Parameters
    ----------
    table : QTableWidget
        With three columns and no headers.
    queue : RunQueue
    """

    def __init__(self, table, queue):
        self._table, self._queue = table, queue
        self._shown = None
        header = table.horizontalHeader()
        header.setSectionResizeMode(0, qt.QHeaderView.Stretch)
        for column in (1, 2):
            header.setSectionResizeMode(column, qt.QHeaderView.ResizeToContents)

    def show(self):
        """Show the runs as they are; the rows are made anew only when one has moved on."""
        state = [(run, run.title, stateOf(run), run.active) for run in self._queue.runs]
        if state == self._shown:
            return
        self._shown = state
        table = self._table
        table.setRowCount(0)
        table.setRowCount(len(state))
        for row, (run, title, standing, active) in enumerate(state):
            for column, text in enumerate((title, standing)):
                item = qt.QTableWidgetItem(text)
                item.setToolTip(run.message or text)
                table.setItem(row, column, item)
            button = qt.QPushButton(_("Cancel") if active else _("Remove"))
            button.connect("clicked(bool)", lambda checked=False, run=run: self._end(run))
            table.setCellWidget(row, 2, button)
        table.setFixedHeight(2 + sum(table.rowHeight(row) for row in range(min(LONGEST, len(state)))))

    def _end(self, run):
        """Cancel a run that goes on, remove any other."""
        if run.state.active:
            run.cancel()
        else:
            self._queue.remove(run)


def stateOf(run):
    """A word on where a run stands."""
    return {
        JobState.IDLE: _("waits"),
        JobState.RUNNING: _("running"),
        JobState.CANCELLING: _("cancelling"),
        JobState.IMPORTING: _("loading"),
        JobState.DONE: _("done"),
        JobState.FAILED: _("failed"),
        JobState.CANCELLED: _("cancelled"),
    }[run.state]
