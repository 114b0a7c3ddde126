"""Runs a worker under PythonSlicer with QProcess: the transport of SparseCTReconLib.jobs.client.Job for Slicer."""

import shutil

import qt

from SparseCTReconLib.jobs.transport import Poll, kill_tree


class QProcessTransport:
    """One worker process. It is polled, so its output waits in Qt's buffers until the event loop has run."""

    def __init__(self, program="PythonSlicer"):
        self._program = program
        self._process = None

    def start(self, arguments, environment):
        program = shutil.which(self._program)
        if program is None:
            raise FileNotFoundError(f"{self._program} is not on the path of this Slicer")
        variables = qt.QProcessEnvironment.systemEnvironment()
        for name, value in environment.items():
            variables.insert(name, value)
        self._process = qt.QProcess()
        self._process.setProcessEnvironment(variables)
        self._process.start(program, list(arguments))
        if not self._process.waitForStarted(5000):
            raise OSError(self._process.errorString())
        self._process.closeWriteChannel()

    def poll(self):
        # Asked before reading: what a process says before it ends is then in this poll or in the next one, never lost.
        gone = self._process.state() == qt.QProcess.NotRunning
        stdout = self._process.readAllStandardOutput().data() or b""
        stderr = self._process.readAllStandardError().data() or b""
        return Poll(stdout, stderr, self._exitCode() if gone else None)

    def kill(self, pid):
        if pid:
            kill_tree(pid)
        if self._process and self._process.state() != qt.QProcess.NotRunning:
            self._process.kill()
            self._process.waitForFinished(1000)

    def _exitCode(self):
        crashed = self._process.exitStatus() == qt.QProcess.CrashExit
        # A process that a signal ended has the signal's number as its code, where Qt tells it.
        return -(self._process.exitCode() or 9) if crashed else self._process.exitCode()
