"""Trilinear look-up of two features in a table, and its adjoint, with vectors of four floats.

Two vertices that are neighbours along x, with two features each, are four floats: side by side in a table that holds every vertex, two
pairs where rows are hashed. LLVM has such vectors on every processor. What is the same for all points is worked out for a strip of
points before, where it vectorises: the rows and weights of a cell's four edges along x.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

STRIP = 256
"""Points whose rows and weights are worked out together."""

_I32, _I64, _FLOAT = ir.IntType(32), ir.IntType(64), ir.FloatType()
_PAIR, _VEC = ir.VectorType(_FLOAT, 2), ir.VectorType(_FLOAT, 4)


class _Edges:
    """A cell's four edges along x in the function that is being built: where their vertices' features lie, and their weights.

    `rows` is the address of the first of 4 (dense) or 8 numbers, `weights` of 4, which lie `STRIP` numbers apart.
    """

    def __init__(self, builder, table, rows, weights, dense):
        self.b, self.table, self.rows, self.weights, self.dense = builder, table, rows, weights, dense

    def at(self, address, kind, number=0):
        """A pointer to the `number`th of a strip's rows or weights."""
        return self.b.inttoptr(self.b.add(address, ir.Constant(_I64, 4 * STRIP * number)), ir.PointerType(kind))

    def weight(self, edge):
        """The edge's weight on all lanes."""
        undefined = ir.Constant(_VEC, ir.Undefined)
        weight = self.b.load(self.at(self.weights, _FLOAT, edge))
        return self.b.shuffle_vector(self.b.insert_element(undefined, weight, ir.Constant(_I32, 0)), undefined, _mask(0, 0, 0, 0))

    def vertices(self, edge):
        """Pointers to the four features of an edge, or to the two of either end."""
        numbers, kind = ([edge], _VEC) if self.dense else ([2 * edge, 2 * edge + 1], _PAIR)
        for number in numbers:
            row = self.b.zext(self.b.load(self.at(self.rows, _I32, number)), _I64)
            yield self.b.inttoptr(self.b.add(self.table, self.b.shl(row, ir.Constant(_I64, 3))), ir.PointerType(kind))

    def load(self, edge):
        parts = [self.b.load(pointer, align=4) for pointer in self.vertices(edge)]
        return parts[0] if self.dense else self.b.shuffle_vector(*parts, _mask(0, 1, 2, 3))

    def add(self, edge, vector):
        undefined = ir.Constant(_VEC, ir.Undefined)
        parts = [vector] if self.dense else [self.b.shuffle_vector(vector, undefined, _mask(*pair)) for pair in ((0, 1), (2, 3))]
        for pointer, part in zip(self.vertices(edge), parts):
            self.b.store(self.b.fadd(self.b.load(pointer, align=4), part), pointer, align=4)


def _mask(*lanes):
    return ir.Constant(ir.VectorType(_I32, len(lanes)), list(lanes))


def _gather(dense):
    def build(context, builder, signature, arguments):
        table, rows, weights, out = arguments
        edges = _Edges(builder, table, rows, weights, dense)
        total = builder.fmul(edges.load(0), edges.weight(0))
        for edge in range(1, 4):
            product = builder.fmul(edges.load(edge), edges.weight(edge), flags=["contract"])
            total = builder.fadd(total, product, flags=["contract"])
        builder.store(total, edges.at(out, _VEC), align=4)
        return context.get_dummy_value()

    return types.void(*[types.uintp] * 4), build


def _scatter(dense):
    def build(context, builder, signature, arguments):
        table, rows, weights, source = arguments
        edges = _Edges(builder, table, rows, weights, dense)
        vector = builder.load(edges.at(source, _VEC), align=4)
        for edge in range(4):
            edges.add(edge, builder.fmul(vector, edges.weight(edge)))
        return context.get_dummy_value()

    return types.void(*[types.uintp] * 4), build


@intrinsic
def gather_dense(typingctx, table, rows, weights, out):
    """Interpolate between a cell's edges along x: both features at the near end and both at the far one are written to `out`.

    All are addresses. `rows` and `weights` are the point's place in a strip's arrays (4, STRIP) of the edges in the order (y, z),
    (y + 1, z), (y, z + 1), (y + 1, z + 1): the row of the near vertex, behind which the far one lies, and the edge's weight.
    """
    return _gather(dense=True)


@intrinsic
def gather_hashed(typingctx, table, rows, weights, out):
    """`gather_dense` with rows (8, STRIP) of the near and of the far vertex of each edge."""
    return _gather(dense=False)


@intrinsic
def scatter_dense(typingctx, table, rows, weights, source):
    """The adjoint of `gather_dense`: add the four numbers at `source` to the cell's eight vertices."""
    return _scatter(dense=True)


@intrinsic
def scatter_hashed(typingctx, table, rows, weights, source):
    """The adjoint of `gather_hashed`."""
    return _scatter(dense=False)
