"""What a result was asked for: kept with it, and taken over again."""

import dataclasses
import json

import slicer
from slicer.i18n import tr as _

from . import method_options
from .candidates import isResult
from .request import Request, Source
from .scene import PREFIX

REQUEST = PREFIX + "request"
METHOD = PREFIX + "method"
"""Every result has this attribute, also one that the command line has made."""
ROLES = {"inputVolume": PREFIX + "input", "scanVolume": PREFIX + "inputScan", "region": PREFIX + "region"}


class Settings:
    """What was asked for, to be kept with the result.

    Parameters
    ----------
    request : Request
        Everything but the nodes.
    nodes : dict
        Nodes by the name of their parameter; None where there is none.
    """

    def __init__(self, request, **nodes):
        self._request = request
        self._ids = {name: node.GetID() for name, node in nodes.items() if node}

    def keep(self, node):
        """Write them to the result."""
        values = dataclasses.asdict(self._request) | {"source": self._request.source.name}
        node.SetAttribute(REQUEST, json.dumps(values, sort_keys=True))
        for name, role in ROLES.items():
            node.SetNodeReferenceID(role, self._ids.get(name))


def use(node, parameters):
    """Set the parameters to what the result `node` was asked for.

    :raises ValueError: if the node does not say what made it, in one sentence.
    """
    if not isResult(node):
        raise ValueError(_("{name} does not say how it was made: choose a result of this module.").format(name=node.GetName()))
    with slicer.util.NodeModify(parameters.parameterNode):
        for name, value in _requestOf(node).items():
            _set(parameters, name, value)
        for name, role in ROLES.items():
            kept = node.GetNodeReference(role)
            if kept or (name == "region" and node.GetAttribute(REQUEST)):
                setattr(parameters, name, kept)


def _requestOf(node):
    """The fields of the request that made a result; of one that was not made here, its method, preset and options."""
    try:
        values = json.loads(node.GetAttribute(REQUEST) or "null")
    except ValueError:
        values = None
    if isinstance(values, dict):
        return values
    preset, options = node.GetAttribute(PREFIX + "preset") or "", node.GetAttribute(PREFIX + "options") or "{}"
    try:
        return {"method": node.GetAttribute(METHOD), "methodPreset": preset, "options": dict(json.loads(options))}
    except (ValueError, TypeError):
        return {"method": node.GetAttribute(METHOD), "methodPreset": preset}


def _set(parameters, name, value):
    """Set one parameter; a value that this version does not take is passed over."""
    known = {field.name for field in dataclasses.fields(Request)}
    try:
        if name == "source":
            parameters.source = Source[value]
        elif name == "options":
            changed = method_options.changed(parameters.method, parameters.methodPreset, value)
            parameters.methodOptions = method_options.write(parameters.methodOptions, parameters.method, changed)
        elif name in ("columns", "rows", "pixelSize", "offset"):
            if name == "columns":
                parameters.ownDetector = bool(value)
            if value or (name == "offset" and value is not None):
                setattr(parameters, name, value)
        elif name in known:
            setattr(parameters, name, value)
    except (ValueError, TypeError, KeyError):
        return
