"""Vectors of eight numbers as values in kernels, for loops that are too short or too tangled for a compiler to make vectors of.

    x = spread(start) + steps()              start, start + 1, ... start + 7
    y = load(row, at) * root(x)              operators work on vectors and float32 alike
    store(row, at, y);  sum_of(y)

They become whatever vector instructions the processor has.
"""

from __future__ import annotations

import operator

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, overload, register_model

LANES = 8

_I32, _FLOAT = ir.IntType(32), ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, LANES)


class _Lanes(types.Type):
    def __init__(self):
        super().__init__(name=f"Lanes{LANES}")


lanes = _Lanes()


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, _VECTOR)


def _splat(builder, scalar):
    first = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), scalar, ir.Constant(_I32, 0))
    zeros = ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES)
    return builder.shuffle_vector(first, ir.Constant(_VECTOR, ir.Undefined), zeros)


@intrinsic
def spread(typingctx, number):
    """Eight times a float32; a vector stays as it is."""
    if number is lanes or isinstance(number, _Lanes):
        return lanes(number), lambda context, builder, signature, arguments: arguments[0]
    if number is types.float32:
        return lanes(number), lambda context, builder, signature, arguments: _splat(builder, arguments[0])
    return None


@intrinsic
def steps(typingctx):
    """0, 1, ... 7."""
    return lanes(), lambda context, builder, signature, arguments: ir.Constant(_VECTOR, [float(lane) for lane in range(LANES)])


def _address(context, builder, kind, array, at):
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [at]), ir.PointerType(_VECTOR))


@intrinsic
def load(typingctx, row, at):
    """Eight numbers of a contiguous float32 array from index `at`, a uint64, on."""

    def build(context, builder, signature, arguments):
        return builder.load(_address(context, builder, signature.args[0], *arguments), align=4)

    return lanes(row, types.uint64), build


@intrinsic
def store(typingctx, row, at, vector):
    """Write a vector to a contiguous float32 array, from index `at`, a uint64, on."""

    def build(context, builder, signature, arguments):
        builder.store(arguments[2], _address(context, builder, signature.args[0], *arguments[:2]), align=4)
        return context.get_dummy_value()

    return types.void(row, types.uint64, vector), build


def _called(builder, name, result, *arguments):
    module = builder.module
    function = module.globals.get(name) or ir.Function(module, ir.FunctionType(result, [of.type for of in arguments]), name)
    return builder.call(function, arguments)


@intrinsic
def root(typingctx, vector):
    """Square roots."""
    return lanes(vector), lambda context, builder, signature, arguments: _called(builder, f"llvm.sqrt.v{LANES}f32", _VECTOR, *arguments)


@intrinsic
def smaller(typingctx, vector, number):
    """The smaller of each number of a vector and a float32."""

    def build(context, builder, signature, arguments):
        limit = _splat(builder, arguments[1])
        return builder.select(builder.fcmp_ordered("<", arguments[0], limit), arguments[0], limit)

    return lanes(vector, types.float32), build


@intrinsic
def sum_of(typingctx, vector):
    """The sum of a vector's numbers, in pairs."""

    def build(context, builder, signature, arguments):
        parts = [builder.extract_element(arguments[0], ir.Constant(_I32, lane)) for lane in range(LANES)]
        while len(parts) > 1:
            half = len(parts) // 2
            parts = [builder.fadd(a, b) for a, b in zip(parts[:half], parts[half:])]
        return parts[0]

    return types.float32(vector), build


def _operation(name):
    @intrinsic
    def work(typingctx, a, b):
        def build(context, builder, signature, arguments):
            return getattr(builder, name)(*arguments, flags=["contract", "reassoc", "nsz", "arcp"])

        return lanes(a, b), build

    return work


def _overload(sign, name):
    work = _operation(name)

    @overload(sign, inline="always")
    def _(a, b):
        if isinstance(a, _Lanes) or isinstance(b, _Lanes):
            return lambda a, b: work(spread(a), spread(b))
        return None


for _sign, _name in ((operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul"), (operator.truediv, "fdiv")):
    _overload(_sign, _name)
for _sign, _name in ((operator.iadd, "fadd"), (operator.isub, "fsub"), (operator.imul, "fmul")):
    _overload(_sign, _name)
