"""Trilinear look-up of two features in a table, and its adjoint, with vectors of four floats.

Two vertices that are neighbours along x, with two features each, are four floats: side by side in a table that holds every vertex, two
pairs where rows are hashed. LLVM has such vectors on every processor.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_I32, _I64, _FLOAT = ir.IntType(32), ir.IntType(64), ir.FloatType()
_PAIR, _VEC = ir.VectorType(_FLOAT, 2), ir.VectorType(_FLOAT, 4)
_SIGNATURE_GATHER = types.UniTuple(types.float32, 2)


class _Corners:
    """The vectors of a cell's four edges along x, and the edges' weights, in the function that is being built."""

    def __init__(self, builder, table, rows, fy, fz):
        self.b, self.table, self.rows = builder, table, rows
        one = ir.Constant(_FLOAT, 1.0)
        gy, gz = builder.fsub(one, fy), builder.fsub(one, fz)
        self.weights = [builder.fmul(wy, wz) for wz in (gz, fz) for wy in (gy, fy)]

    def pointer(self, row, kind):
        offset = self.b.shl(self.b.zext(row, _I64), ir.Constant(_I64, 3))
        return self.b.inttoptr(self.b.add(self.table, offset), ir.PointerType(kind))

    def halves(self, vector):
        undefined = ir.Constant(_VEC, ir.Undefined)
        low, high = (ir.Constant(ir.VectorType(_I32, 2), pair) for pair in ([0, 1], [2, 3]))
        return self.b.shuffle_vector(vector, undefined, low), self.b.shuffle_vector(vector, undefined, high)

    def join(self, low, high):
        return self.b.shuffle_vector(low, high, ir.Constant(ir.VectorType(_I32, 4), [0, 1, 2, 3]))

    def load(self, edge):
        if len(self.rows) == 4:
            return self.b.load(self.pointer(self.rows[edge], _VEC), align=4)
        near, far = (self.b.load(self.pointer(row, _PAIR), align=4) for row in self.rows[2 * edge : 2 * edge + 2])
        return self.join(near, far)

    def add(self, edge, vector):
        if len(self.rows) == 4:
            pointer = self.pointer(self.rows[edge], _VEC)
            self.b.store(self.b.fadd(self.b.load(pointer, align=4), vector), pointer, align=4)
            return
        for row, part in zip(self.rows[2 * edge : 2 * edge + 2], self.halves(vector)):
            pointer = self.pointer(row, _PAIR)
            self.b.store(self.b.fadd(self.b.load(pointer, align=4), part), pointer, align=4)

    def splat(self, scalar):
        undefined = ir.Constant(_VEC, ir.Undefined)
        first = self.b.insert_element(undefined, scalar, ir.Constant(_I32, 0))
        return self.b.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_I32, 4), [0] * 4))


def _gather(builder, table, rows, fractions):
    fx, fy, fz = fractions
    corners = _Corners(builder, table, rows, fy, fz)
    total = builder.fmul(corners.load(0), corners.splat(corners.weights[0]))
    for edge in range(1, 4):
        total = builder.fadd(
            total, builder.fmul(corners.load(edge), corners.splat(corners.weights[edge]), flags=["contract"]), flags=["contract"]
        )
    near, far = ([builder.extract_element(total, ir.Constant(_I32, k)) for k in pair] for pair in ((0, 1), (2, 3)))
    return [builder.fadd(n, builder.fmul(fx, builder.fsub(f, n))) for n, f in zip(near, far)]


def _scatter(builder, table, rows, fractions, features):
    fx, fy, fz = fractions
    corners = _Corners(builder, table, rows, fy, fz)
    gx = builder.fsub(ir.Constant(_FLOAT, 1.0), fx)
    vector = ir.Constant(_VEC, ir.Undefined)
    for k, (weight, feature) in enumerate((w, f) for w in (gx, fx) for f in features):
        vector = builder.insert_element(vector, builder.fmul(weight, feature), ir.Constant(_I32, k))
    for edge in range(4):
        corners.add(edge, builder.fmul(vector, corners.splat(corners.weights[edge])))


def _row_types(count):
    return [types.uint32] * count


@intrinsic
def gather_dense(typingctx, table, r0, r1, r2, r3, fx, fy, fz):
    """Features (a, b) at a place in a cell: `table` is an address, r0 .. r3 the rows of the near vertices of its edges along x in the
    order (y, z), (y + 1, z), (y, z + 1), (y + 1, z + 1), the far ones lie behind them; fx, fy, fz the place, 0 to 1."""

    def build(context, builder, signature, arguments):
        pair = _gather(builder, arguments[0], arguments[1:5], arguments[5:8])
        return context.make_tuple(builder, signature.return_type, pair)

    return _SIGNATURE_GATHER(types.uintp, *_row_types(4), *[types.float32] * 3), build


@intrinsic
def gather_hashed(typingctx, table, n0, f0, n1, f1, n2, f2, n3, f3, fx, fy, fz):
    """`gather_dense` with rows of the near and of the far vertex of each edge."""

    def build(context, builder, signature, arguments):
        pair = _gather(builder, arguments[0], arguments[1:9], arguments[9:12])
        return context.make_tuple(builder, signature.return_type, pair)

    return _SIGNATURE_GATHER(types.uintp, *_row_types(8), *[types.float32] * 3), build


@intrinsic
def scatter_dense(typingctx, table, r0, r1, r2, r3, fx, fy, fz, a, b):
    """The adjoint of `gather_dense`: add the features (a, b) to the cell's eight vertices."""

    def build(context, builder, signature, arguments):
        _scatter(builder, arguments[0], arguments[1:5], arguments[5:8], arguments[8:10])
        return context.get_dummy_value()

    return types.void(types.uintp, *_row_types(4), *[types.float32] * 5), build


@intrinsic
def scatter_hashed(typingctx, table, n0, f0, n1, f1, n2, f2, n3, f3, fx, fy, fz, a, b):
    """The adjoint of `gather_hashed`."""

    def build(context, builder, signature, arguments):
        _scatter(builder, arguments[0], arguments[1:9], arguments[9:12], arguments[12:14])
        return context.get_dummy_value()

    return types.void(types.uintp, *_row_types(8), *[types.float32] * 5), build
