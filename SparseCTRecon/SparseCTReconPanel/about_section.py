"""The section "About and installation": checks what the module needs, installs it, and deletes what it keeps on this computer."""

from html import escape

import slicer
from slicer.i18n import tr as _

from SparseCTReconLib import __version__

from . import downloads
from .installation import InstallationCheck
from .section import Section

HOMEPAGE = "https://github.com/SparseCTRecon/SparseCTRecon"
MARKS = {"ok": "\u2713", "optional": "\u2013", "warning": "!", "fault": "\u2717"}
COLOURS = {"ok": "#2e9e5b", "optional": "#808080", "warning": "#c87f0a", "fault": "#d43c3c"}


class AboutSection(Section):
    """What is there, what is missing, what to do; and what can be deleted."""

    uiFile = "AboutSection.ui"

    def __init__(self, panel):
        super().__init__(panel)
        ui = self.ui
        self.check = InstallationCheck(self.onChecked)
        self._kept = []
        self._boxes = {
            "kernels": ui.keptKernelsCheckBox,
            "weights": ui.keptWeightsCheckBox,
            "totalsegmentator": ui.keptTotalSegmentatorCheckBox,
            "runs": ui.keptRunsCheckBox,
        }
        ui.aboutLabel.text = aboutText()
        ui.checkProgressBar.visible = ui.checkText.visible = False
        ui.copyReportButton.enabled = False
        ui.aboutButton.connect("contentsCollapsed(bool)", self.onCollapsed)
        ui.checkInstallationButton.connect("clicked(bool)", self.onCheckButton)
        ui.installPackagesButton.connect("clicked(bool)", self.onInstallButton)
        ui.copyReportButton.connect("clicked(bool)", self.onCopyButton)
        ui.deleteKeptButton.connect("clicked(bool)", self.onDeleteButton)
        for box in self._boxes.values():
            box.connect("toggled(bool)", self._checkCanDelete)

    def cleanup(self):
        self.check.stop()

    def onCollapsed(self, collapsed):
        if not collapsed:
            self.showKept()

    def onCheckButton(self):
        """Check the installation; pressed again, stop that."""
        if self.check.active:
            self.check.stop()
        else:
            self.check.start()
        self._showCheck()

    def onChecked(self, check):
        self._showCheck()
        self.showKept()  # kernels may have been compiled

    def onInstallButton(self):
        try:
            done = self.panel.logic.setupPythonRequirements()
        except Exception as error:
            slicer.util.errorDisplay(str(error), windowTitle=_("SparseCTRecon"))
            return
        text = _("All packages are installed.") if done else _("The packages were not installed.")
        self._showText(f"<p>{escape(text)}</p>")

    def onCopyButton(self):
        slicer.app.clipboard().setText(f"SparseCTRecon {__version__}\n{self.check.report()}")

    def showKept(self):
        """Show how much is kept of each kind; nothing is chosen."""
        self._kept = downloads.kept()
        for entry in self._kept:
            box = self._boxes[entry.kind]
            box.text = f"{entry.title} ({downloads.megabytes(entry.size)})"
            box.toolTip = "\n".join([entry.explanation, *map(str, entry.folders)])
            box.checked = False
            box.enabled = bool(entry.folders)
        self._checkCanDelete()

    def onDeleteButton(self):
        """Delete what is chosen, after asking."""
        chosen = [entry for entry in self._kept if self._boxes[entry.kind].checked]
        listed = "\n".join(f"{entry.title} ({downloads.megabytes(entry.size)})" for entry in chosen)
        folders = "\n".join(str(folder) for entry in chosen for folder in entry.folders)
        question = _("Delete this from this computer?\n\n{listed}").format(listed=listed)
        if not slicer.util.confirmOkCancelDisplay(question, windowTitle=_("SparseCTRecon"), detailedText=folders):
            return
        if self._running:
            self._checkCanDelete()
            slicer.util.errorDisplay(self.ui.deleteKeptButton.toolTip, windowTitle=_("SparseCTRecon"))
            return
        left = downloads.delete(chosen)
        if left:
            message = _("In use, and not deleted whole: {folders}. Stop what runs, or restart Slicer, and delete again.")
            slicer.util.errorDisplay(message.format(folders=", ".join(map(str, left))), windowTitle=_("SparseCTRecon"))
        self.showKept()

    def onRunChanged(self, run):
        self._checkCanDelete()

    @property
    def _running(self):
        """Whether something may be using what is kept; a script may have started it."""
        logic = self.panel.logic
        runs = (self.panel.run, logic.comparisonRun, logic.trustRun) if logic else (self.panel.run,)
        return self.check.active or any(run.active for run in runs if run)

    def _checkCanDelete(self, checked=None):
        button, running = self.ui.deleteKeptButton, self._running
        chosen = any(box.checked for box in self._boxes.values())
        button.enabled = chosen and not running
        if running:
            button.toolTip = _("Something runs: wait until it is done, or cancel it.")
        else:
            button.toolTip = _("Delete what is chosen from this computer.") if chosen else _("Choose what to delete.")

    def _showCheck(self):
        check, ui = self.check, self.ui
        ui.checkInstallationButton.text = _("Stop checking") if check.active else _("Check installation")
        ui.checkProgressBar.visible = check.active
        ui.copyReportButton.enabled = bool(check.findings) and not check.active
        if not check.active:
            self._showText(findingsText(check.findings))
        self._checkCanDelete()

    def _showText(self, html):
        self.ui.checkText.setHtml(html)
        self.ui.checkText.visible = bool(html)


def aboutText():
    return _(
        'SparseCTRecon {version}, Apache 2.0. <a href="{homepage}">Documentation and tutorial</a>. Sample CTs: Visible Human Female, '
        "courtesy of the U.S. National Library of Medicine. Nothing is sent anywhere."
    ).format(version=__version__, homepage=HOMEPAGE)


def findingsText(findings):
    """The findings as a table, those that need something first."""
    if not findings:
        return ""
    order = ["fault", "warning", "optional", "ok"]
    faults = sum(one["state"] == "fault" for one in findings)
    verdict = _("Ready to reconstruct.") if not faults else _("A reconstruction will fail until this is mended:")
    rows = "".join(map(_row, sorted(findings, key=lambda one: order.index(one["state"]))))
    return f"<p><b>{escape(verdict)}</b></p><table cellspacing='3'>{rows}</table>"


def _row(finding):
    state = finding["state"]
    step = f"<br><i>{escape(finding['next_step'])}</i>" if finding["next_step"] else ""
    mark = f"<td><font color='{COLOURS[state]}'><b>{MARKS[state]}</b></font></td>"
    return f"<tr>{mark}<td>{escape(finding['name'])}</td><td>{escape(finding['found'])}{step}</td></tr>"
