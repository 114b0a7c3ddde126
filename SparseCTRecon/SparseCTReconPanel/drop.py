"""Files and folders that are dropped onto a widget."""

import qt


class DropTarget(qt.QObject):
    """Event filter for a widget that accepts drops.

    Parameters
    ----------
    onDropped : callable
        Called with the list of local paths.
    """

    def __init__(self, onDropped):
        qt.QObject.__init__(self)
        self._onDropped = onDropped

    def eventFilter(self, watched, event):
        kind = event.type()
        if kind not in (qt.QEvent.DragEnter, qt.QEvent.DragMove, qt.QEvent.Drop):
            return False
        paths = [url.toLocalFile() for url in event.mimeData().urls() if url.isLocalFile()]
        if not paths:
            return False
        event.acceptProposedAction()
        if kind == qt.QEvent.Drop:
            # Later: whoever dropped waits until this returns, and reading may take a while or end with a message.
            qt.QTimer.singleShot(0, lambda: self._onDropped(paths))
        return True
