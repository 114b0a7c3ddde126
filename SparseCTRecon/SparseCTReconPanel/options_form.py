"""Widgets for the options of a method: one for each, of the option's type, with its unit, bounds and help."""

import math

import qt
from slicer.i18n import tr as _

from .catalogue import hint, label, said

LARGEST = 2**31 - 1
LABEL_WIDTH = 92
"""Least width of a label, the same as in the form around: so the fields stand below each other."""


class OptionsForm:
    """Two forms that show a method's options: those that most people need, and the advanced ones.

    Parameters
    ----------
    basic, advanced : QLayout
        Where each of the forms goes.
    onChanged : callable
        Called with an option's name and value when the user has changed it.
    """

    def __init__(self, basic, advanced, onChanged):
        self._places = {False: basic, True: advanced}
        self._forms = {}
        self._onChanged = onChanged
        self._editors = {}
        self._method = None

    @property
    def editors(self):
        """The editor of each option by name; its `widget` is the Qt widget."""
        return self._editors

    def show(self, method, options, values):
        """Show `values` of a method's `options`; the widgets are made anew when the method is another one."""
        if method != self._method:
            self._method = method
            self._build(options)
        for name, editor in self._editors.items():
            editor.show(values[name])

    def _build(self, options):
        rows = {advanced: self._newForm(advanced) for advanced in self._places}
        self._editors = {}
        for option in options:
            editor = _kindOf(option)(option, self._onChanged)
            editor.widget.setObjectName(f"{option['name']}Option")
            editor.widget.setToolTip(hint(option))
            text = qt.QLabel(f"{label(option)}:")
            text.setToolTip(hint(option))
            text.setMinimumWidth(LABEL_WIDTH)
            rows[option["advanced"]].addRow(text, editor.widget)
            self._editors[option["name"]] = editor

    def _newForm(self, advanced):
        """An empty form in the place of the one that is there."""
        place = self._places[advanced]
        if advanced in self._forms:
            place.removeWidget(self._forms[advanced])
            self._forms[advanced].deleteLater()
        self._forms[advanced] = qt.QWidget()
        place.addWidget(self._forms[advanced])
        rows = qt.QFormLayout(self._forms[advanced])
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setFieldGrowthPolicy(qt.QFormLayout.AllNonFixedFieldsGrow)
        return rows


def _kindOf(option):
    if "choices" in option or (option["type"] == "boolean" and option["optional"]):
        return _Choice
    return {"boolean": _Check, "integer": _Whole, "number": _Number, "string": _Text}[option["type"]]


class _Editor:
    """A widget and the option that it edits."""

    def __init__(self, option, onChanged):
        self.option = option
        self._tell = lambda: onChanged(option["name"], self.value())
        self.widget = self._make()

    def show(self, value):
        """Show `value` without telling anyone."""
        blocked = self.widget.blockSignals(True)
        self._put(value)
        self.widget.blockSignals(blocked)


class _Choice(_Editor):
    def _make(self):
        self._values = list(self.option.get("choices", [True, False]))
        names = [said(value) for value in self._values]
        if self.option["optional"]:
            self._values.insert(0, None)
            names.insert(0, _("default"))
        widget = qt.QComboBox()
        widget.addItems(names)
        widget.connect("currentIndexChanged(int)", lambda index: self._tell())
        return widget

    def value(self):
        return self._values[self.widget.currentIndex]

    def _put(self, value):
        self.widget.setCurrentIndex(self._values.index(value))


class _Check(_Editor):
    def _make(self):
        widget = qt.QCheckBox()
        widget.connect("toggled(bool)", lambda on: self._tell())
        return widget

    def value(self):
        return self.widget.checked

    def _put(self, value):
        self.widget.setChecked(value)


class _Text(_Editor):
    def _make(self):
        widget = qt.QLineEdit()
        widget.connect("editingFinished()", self._tell)
        return widget

    def value(self):
        return self.widget.text or (None if self.option["optional"] else "")

    def _put(self, value):
        self.widget.setText(value or "")


class _Spin(_Editor):
    """A number; one step below the bounds stands for the method's own choice where the option may be left out."""

    def _setUp(self, widget, low, high, step):
        widget.setRange(low - step if self.option["optional"] else low, high)
        widget.setSingleStep(step)
        widget.setKeyboardTracking(False)
        if self.option["unit"]:
            widget.setSuffix(f" {self.option['unit']}")
        if self.option["optional"]:
            widget.setSpecialValueText(_("default"))
        return widget

    def value(self):
        if self.option["optional"] and self.widget.value <= self.widget.minimum:
            return None
        return self._number()

    def _put(self, value):
        self.widget.setValue(self.widget.minimum if value is None else value)


class _Whole(_Spin):
    def _make(self):
        option = self.option
        step = option.get("multipleOf") or max(1, 10 ** (len(str(option["default"] or 1)) - 2))
        widget = self._setUp(qt.QSpinBox(), option.get("minimum", 0), min(option.get("maximum", LARGEST), LARGEST), step)
        widget.connect("valueChanged(int)", lambda value: self._tell())
        return widget

    def _number(self):
        step = self.option.get("multipleOf", 1)
        return self.widget.value // step * step


class _Number(_Spin):
    def _make(self):
        option = self.option
        self._decimals = _decimals(option)
        least = 10.0**-self._decimals
        low, high = option.get("minimum", option.get("exclusiveMinimum", 0) + least), option.get("maximum", 1e9)
        if "exclusiveMaximum" in option:
            high = option["exclusiveMaximum"] - least
        widget = qt.QDoubleSpinBox()
        widget.setDecimals(self._decimals)
        self._setUp(widget, low, high, least)
        widget.setSingleStep(max(least, 10.0 ** math.floor(math.log10(option["default"] or 1) - 1e-9)))
        widget.connect("valueChanged(double)", lambda value: self._tell())
        return widget

    def _number(self):
        return round(self.widget.value, self._decimals)


def _decimals(option):
    """Digits behind the point: two more than the smallest of the default and the bounds begins with; many where that is not known."""
    sizes = [abs(number) for number in (option["default"], option.get("minimum")) if number]
    if not sizes:
        return 6 if option.get("maximum", 2) <= 1 else 3
    return min(8, max(2, 2 - math.floor(math.log10(min(sizes)))))
