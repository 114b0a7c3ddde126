"""Corrections of measured data, one small class each, and the calibration of the geometry from the data.

correct(scan, parse({"rings": "measured", "scatter.fraction": 0.2}))
"""
