"""Checks the installation in a process of its own, and says what to do about each fault in Slicer's terms. No widgets."""

import importlib.util
import json
import shutil
import time

import qt
import slicer
from slicer.i18n import tr as _

from SparseCTReconLib.jobs.client import worker_environment

from . import dependencies
from .job import QProcessTransport

POLL_INTERVAL_MS = 100
LIMIT_S = 300
SLICER = (5, 12)
OK, OPTIONAL, WARNING, FAULT = "ok", "optional", "warning", "fault"


class InstallationCheck:
    """Handle of a check.

    Parameters
    ----------
    onChanged : callable
        Called with this check when it is over.
    newTransport : callable, optional
        Makes the transport that runs the process.

    Attributes
    ----------
    active : bool
    findings : list of dict
        name, state ("ok", "optional", "warning" or "fault"), found and next_step of everything that was looked at.
    log : str
        What the process has said beside that.
    """

    def __init__(self, onChanged, newTransport=QProcessTransport):
        self._onChanged, self._newTransport = onChanged, newTransport
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_INTERVAL_MS)
        self._timer.connect("timeout()", self.poll)
        self._transport = None
        self._said = b""
        self.active, self.findings, self.log = False, [], ""

    @property
    def faults(self):
        """How many findings say that a reconstruction will fail."""
        return sum(one["state"] == FAULT for one in self.findings)

    def start(self):
        """Look at what this process can see, and start the process that tries the rest."""
        self.findings, self.log, self._said, self.active = inSlicer(), "", b"", True
        self._until = time.monotonic() + LIMIT_S
        self._transport = self._newTransport()
        program = ["-u", "-m", "SparseCTReconLib.installation"]
        arguments = [*program, "--folder", slicer.app.temporaryPath, "--needed", *dependencies.needed()]
        try:
            self._transport.start(arguments, worker_environment())
        except OSError as error:
            self._end([_finding("PythonSlicer", FAULT, str(error), _("Reinstall Slicer."))])
        else:
            self._timer.start()
        return self

    def poll(self):
        """Take what the process has said; the timer calls this."""
        if not self.active:
            return
        said = self._transport.poll()
        self._said += said.stdout
        self.log += said.stderr.decode("utf-8", errors="replace")
        if said.exit_code is not None:
            self._end(self._read(said.exit_code))
        elif time.monotonic() > self._until:
            self._transport.kill(None)
            answer = _("the check did not answer within {n} s").format(n=LIMIT_S)
            self._end([_finding(_("worker"), FAULT, answer, _("Copy the report, and report it."))])

    def stop(self):
        """End the check without a result."""
        if self.active:
            self._timer.stop()
            self._transport.kill(None)
            self.active = False

    def report(self):
        """What was found, as plain text for whoever is to help."""
        lines = [f"{one['state']}: {one['name']}: {one['found']} {one['next_step']}".rstrip() for one in self.findings]
        return "\n".join([*lines, *filter(None, [self.log.strip()])])

    def _read(self, exitCode):
        lines = self._said.decode("utf-8", errors="replace").splitlines()
        try:
            return [_forSlicer(one) for one in json.loads(lines[-1])["findings"]]
        except (IndexError, ValueError, KeyError, TypeError):
            last = (self.log.strip().splitlines() or [_("exit code {n}").format(n=exitCode)])[-1]
            ended = _("Python ended without an answer: {last}").format(last=last)
            return [_finding(_("worker"), FAULT, ended, _("Press Install packages; if that does not help, copy the report."))]

    def _end(self, findings):
        self._timer.stop()
        known = {one["name"] for one in self.findings if one["state"] == OPTIONAL}
        self.findings += [one for one in findings if _("extension {name}").format(name=one["name"]) not in known]
        self.active = False
        self._onChanged(self)


def inSlicer():
    """Findings about Slicer itself: its version, and the extensions that this one goes with."""
    version = slicer.app.applicationVersion
    old = (slicer.app.majorVersion, slicer.app.minorVersion) < SLICER
    wanted = _("Install Slicer {major}.{minor} or later.").format(major=SLICER[0], minor=SLICER[1])
    findings = [_finding("Slicer", WARNING if old else OK, version, wanted if old else "")]
    if shutil.which("PythonSlicer") is None:
        findings.append(_finding("PythonSlicer", FAULT, _("it is not on the path of this Slicer"), _("Reinstall Slicer.")))
    extensions = (
        ("PyTorch", "PyTorchUtils", _("it installs torch")),
        ("TotalSegmentator", "TotalSegmentator", _("for organs in a comparison")),
    )
    for name, module, use in extensions:
        there = importlib.util.find_spec(module) is not None
        found = _("installed") if there else _("not installed; {use}").format(use=use)
        step = _("Install it in the Extensions Manager and restart Slicer.")
        findings.append(_finding(_("extension {name}").format(name=name), OK if there else OPTIONAL, found, "" if there else step))
    return findings


def _finding(name, state, found, nextStep=""):
    return {"name": name, "state": state, "found": found, "next_step": nextStep}


def _forSlicer(finding):
    """A finding of the library with what to do in Slicer instead of on a command line."""
    if not finding["next_step"].startswith("pip install"):
        return finding
    steps = {
        "torch": _("Install the PyTorch extension in the Extensions Manager, restart Slicer, and press Install packages."),
        "TotalSegmentator": _("Install the TotalSegmentator extension in the Extensions Manager, and run it once."),
    }
    package = finding["next_step"].split()[-1]
    bundled = package in ("numpy", "scipy", "SimpleITK")
    step = _("It comes with Slicer: reinstall Slicer.") if bundled else _("Press Install packages.")
    return finding | {"next_step": steps.get(package, step)}
