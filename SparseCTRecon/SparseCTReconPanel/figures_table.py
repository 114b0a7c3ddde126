"""A table node in a table widget, with figures as a person reads them."""

import os

import qt

from .compare_tables import textOf

MOST_PIXELS, GAP_PIXELS, SCROLL_BAR_PIXELS = 260, 4, 22
_RIGHT = 0x0002 | 0x0080  # Qt.AlignRight | Qt.AlignVCenter, a number in Qt 5 and Qt 6


def showTable(widget, node):
    """Show the table node (None empties the widget); columns without any figure are left out."""
    table = node.GetTable() if node else None
    columns = [table.GetColumn(n) for n in range(table.GetNumberOfColumns())] if table else []
    columns = [column for column in columns if _says(column)]
    widget.clear()
    widget.setColumnCount(len(columns))
    widget.setRowCount(table.GetNumberOfRows() if table else 0)
    widget.setHorizontalHeaderLabels([_heading(column) for column in columns])
    for number, column in enumerate(columns):
        tip = node.GetColumnDescription(column.GetName())
        widget.horizontalHeaderItem(number).setToolTip(tip)
        values = [column.GetValue(row) for row in range(column.GetNumberOfValues())]
        shared = 0 if column.IsNumeric() else _sharedWords(values)
        for row, value in enumerate(values):
            widget.setItem(row, number, _number(value) if column.IsNumeric() else _text(value[shared:], value))
    widget.verticalHeader().setVisible(False)
    widget.resizeColumnsToContents()
    rowPixels = widget.fontMetrics().height() + GAP_PIXELS
    widget.verticalHeader().setDefaultSectionSize(rowPixels)  # many rows need long to be measured one by one
    widget.setFixedHeight(min(MOST_PIXELS, (2 + widget.rowCount) * rowPixels + SCROLL_BAR_PIXELS))


def _says(column):
    return not column.IsNumeric() or any(column.GetValue(row) == column.GetValue(row) for row in range(column.GetNumberOfValues()))


def _heading(column):
    """Narrow: two lines, of which the lower one is the unit, or the last word with it."""
    name, _space, unit = column.GetName().partition(" (")
    *first, last = name.split()
    lower = " ".join(filter(None, [last if first else "", f"({unit}" if unit else ""]))
    return "\n".join(filter(None, [" ".join(first) or last, lower]))


def _sharedWords(names):
    """Length of the words that all names begin with, such as the CT's name: a narrow table can do without. Bare numbers say nothing."""
    length = os.path.commonprefix(names).rfind(" ") + 1 if len(set(names)) > 1 else 0
    return length if all(any(map(str.isalpha, name[length:])) for name in names) else 0


def _number(value):
    item = _text(textOf(value), str(value))
    item.setTextAlignment(_RIGHT)
    return item


def _text(text, tip):
    item = qt.QTableWidgetItem(text)
    item.setToolTip(tip)
    return item
