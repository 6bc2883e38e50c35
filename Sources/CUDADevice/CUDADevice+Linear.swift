// The documentation of what this implements stands in `Device`.
// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

import CUDADriver
import Tensors

// A group of projections is one product, adapters included, where its tensors lie side by side and have room behind their
// rows (``CUDAMatrixGroup``); where they do not, it is one product per matrix and two per adapter.
extension CUDADevice {
  public var headRows: Int { 1024 }
  public var embedsTokens: Bool { true }

  public func operandTail(ranks: [Int]) -> Int? { (ranks.reduce(0, +) + 63) / 64 * 64 }

  public func linear(
    _ x: Tensor, _ projections: [Projection], into outputs: [Tensor], lowRank: [Tensor?], accumulate: Bool,
    dropout: DropoutKey?
  ) throws {
    if dropout == nil, try linearOfFewRows(x, projections, outputs, lowRank, accumulate: accumulate) { return }
    let group = try wholeGroup(projections)
    let y = group == nil ? nil : sideBySide(outputs)
    // Sums of base and adapter are rounded once: what the adapter adds early in training is less than bf16 can hold beside
    // the base's result.
    if let group, let adapters = adapters(projections, lowRank, room: x.tail) {
      try group.makeRoom(adapters.rank, on: self)
      let open = try group.open(on: self)
      try extendInput(x, adapters, dropout)
      try writeBehind(open, adapters)
      guard let y else {
        for (index, output) in outputs.enumerated() {
          try product(
            x.widened(by: adapters.rank), open.rows(of: index).widened(by: adapters.rank), transposeB: true,
            into: output, accumulate: accumulate)
        }
        return
      }
      try product(
        x.widened(by: adapters.rank), open.widened(adapters.rank), transposeB: true, into: y, accumulate: accumulate)
      return
    }
    if let group, let y {
      try product(x, group.open(on: self).weights, transposeB: true, into: y, accumulate: accumulate)
    } else {
      for (projection, output) in zip(projections, outputs) {
        try product(x, weights(of: projection.matrix), transposeB: true, into: output, accumulate: accumulate)
      }
    }
    for (index, projection) in projections.enumerated() {
      guard let pair = projection.lowRank, let s = lowRank[index] else { continue }
      try product(dropped(x, pair, dropout), pair.a, transposeB: true, into: s)
      try product(s, pair.scaledB, transposeB: true, into: outputs[index], accumulate: true)
    }
  }

  public func lowRankInput(
    _ x: Tensor, _ projections: [Projection], into lowRank: [Tensor?], dropout: DropoutKey?
  ) throws {
    for (index, projection) in projections.enumerated() {
      guard let pair = projection.lowRank, let s = lowRank[index] else { continue }
      try product(dropped(x, pair, dropout), pair.a, transposeB: true, into: s)
    }
  }

  public func linearBackward(
    _ gradients: [Tensor], _ projections: [Projection], lowRank: [Tensor?], lowRankGradients: [Tensor?],
    into dx: Tensor?, dropout: DropoutKey?
  ) throws {
    for (index, projection) in projections.enumerated() {
      guard let gradient = projection.lowRank?.gradientB, let s = lowRank[index], lowRankGradients[index] != nil else {
        continue
      }
      try product(gradients[index], s, transposeA: true, into: gradient, accumulate: true)
    }
    let group = try wholeGroup(projections)
    let dy = group == nil ? nil : sideBySide(gradients)
    if let group, let dy, let adapters = adapters(projections, lowRankGradients, room: dy.tail),
      !drops(projections, dropout)
    {
      try group.makeRoom(adapters.rank, on: self)
      let open = try group.open(on: self)
      try writeBehind(open, adapters)
      try product(dy, open.behind(adapters.rank), into: dy.past(columns: adapters.rank))
      try keep(dy.past(columns: adapters.rank), adapters)
      guard let dx else { return }
      try writeBelow(open, adapters)
      try product(dy.widened(by: adapters.rank), open.lengthened(adapters.rank), into: dx)
      return
    }
    if let dx {
      if let group, let dy {
        try product(dy, group.open(on: self).weights, into: dx)
      } else {
        for (index, projection) in projections.enumerated() {
          try product(gradients[index], weights(of: projection.matrix), into: dx, accumulate: index > 0)
        }
      }
    }
    for (index, projection) in projections.enumerated() {
      guard let pair = projection.lowRank, lowRank[index] != nil, let ds = lowRankGradients[index] else { continue }
      try product(gradients[index], pair.scaledB, into: ds)
      guard let dx else { continue }
      if let dropout, pair.dropout > 0 {
        let through = Tensor(
          try scratch(.through, byteCount: dx.count * 4), rows: dx.rows, columns: dx.columns, dtype: .float32)
        try product(ds, pair.a, into: through)
        try launch(
          "dropout_backward_\(suffix(dx))", .rows(dx.rows, by: (dx.columns + 7) / 8),
          [dx.rows.word, dx.columns.word, through.word, through.rowStride.word, dx.word, dx.rowStride.word]
            + dropoutWords(pair, dropout) + [isAligned(through, dx).word])
      } else {
        try product(ds, pair.a, into: dx, accumulate: true)
      }
    }
  }

  public func linearBackwardA(
    _ x: Tensor, _ projections: [Projection], lowRankGradients: [Tensor?], dropout: DropoutKey?
  ) throws {
    let parts = projections.indices.compactMap { index -> (pair: LowRankPair, ds: Tensor, gradient: Tensor)? in
      guard let pair = projections[index].lowRank, let ds = lowRankGradients[index], let gradient = pair.gradientA
      else {
        return nil
      }
      return (pair, ds, gradient)
    }
    let drops = dropout != nil && parts.contains { $0.pair.dropout > 0 }
    if parts.count > 1, !drops, let ds = sideBySide(parts.map(\.ds)),
      let gradient = oneBelowTheOther(parts.map(\.gradient))
    {
      return try product(ds, x, transposeA: true, into: gradient, accumulate: true)
    }
    for part in parts {
      try product(part.ds, dropped(x, part.pair, dropout), transposeA: true, into: part.gradient, accumulate: true)
    }
  }

  // MARK: Groups

  /// The adapters of a group in its order; rank 0 where a projection has none.
  private struct Adapters {
    var pairs: [LowRankPair?]
    /// Where each one's x·Aᵀ or dy·s·B is kept.
    var kept: [Tensor?]
    var rank: Int
  }

  /// The group whose matrices these are, all of them and in its order.
  private func wholeGroup(_ projections: [Projection]) throws -> CUDAMatrixGroup? {
    let matrices = try projections.map { try own($0.matrix) }
    guard let group = matrices.first?.group, group.outputs.count == matrices.count,
      matrices.enumerated().allSatisfy({ $1.group === group && $1.index == $0 })
    else { return nil }
    return group
  }

  /// The group's adapters, where it has any and there is room for them.
  private func adapters(_ projections: [Projection], _ kept: [Tensor?], room: Int) -> Adapters? {
    let pairs = zip(projections, kept).map { $1 == nil ? nil : $0.lowRank }
    let rank = pairs.reduce(0) { $0 + ($1?.rank ?? 0) }
    guard rank > 0, rank <= room, pairs.count <= 3, pairs.allSatisfy({ $0?.scaledB.isDense ?? true }) else {
      return nil
    }
    return Adapters(pairs: pairs, kept: kept, rank: rank)
  }

  private func drops(_ projections: [Projection], _ dropout: DropoutKey?) -> Bool {
    dropout != nil && projections.contains { ($0.lowRank?.dropout ?? 0) > 0 }
  }

  /// Tensors of one shape of rows that lie side by side, as one.
  private func sideBySide(_ tensors: [Tensor]) -> Tensor? {
    guard let first = tensors.first, let last = tensors.last else { return nil }
    var columns = 0
    for tensor in tensors {
      guard tensor.buffer === first.buffer, tensor.rows == first.rows, tensor.dtype == first.dtype,
        tensor.rowStride == first.rowStride || tensors.count == 1,
        tensor.byteOffset == first.byteOffset + columns * first.dtype.byteCount
      else { return nil }
      columns += tensor.columns
    }
    return Tensor(
      first.buffer, byteOffset: first.byteOffset, rows: first.rows, columns: columns, rowStride: first.rowStride,
      dtype: first.dtype, tail: last.tail)
  }

  /// Dense tensors of one width that follow one another, as one.
  private func oneBelowTheOther(_ tensors: [Tensor]) -> Tensor? {
    guard let first = tensors.first else { return nil }
    var rows = 0
    for tensor in tensors {
      guard tensor.buffer === first.buffer, tensor.columns == first.columns, tensor.dtype == first.dtype,
        tensor.isDense,
        tensor.byteOffset == first.byteOffset + rows * first.columns * first.dtype.byteCount
      else { return nil }
      rows += tensor.rows
    }
    return Tensor(first.buffer, byteOffset: first.byteOffset, rows: rows, columns: first.columns, dtype: first.dtype)
  }

  /// x·Aᵀ of every adapter behind x's rows, and where it is kept.
  private func extendInput(_ x: Tensor, _ adapters: Adapters, _ dropout: DropoutKey?) throws {
    let behind = x.past(columns: adapters.rank)
    let drops = dropout != nil && adapters.pairs.contains { ($0?.dropout ?? 0) > 0 }
    if !drops, let a = oneBelowTheOther(adapters.pairs.compactMap { $0?.a }) {
      try product(x, a, transposeB: true, into: behind)
    } else {
      try forEach(adapters, of: behind) { pair, part, _ in
        try product(dropped(x, pair, dropout), pair.a, transposeB: true, into: part)
      }
    }
    try keep(behind, adapters)
  }

  /// Copies the adapters' columns to where they are kept.
  private func keep(_ columns: Tensor, _ adapters: Adapters) throws {
    if let all = sideBySide(adapters.kept.compactMap { $0 }), all.columns == columns.columns {
      return try copy(columns, to: all)
    }
    try forEach(adapters, of: columns) { _, part, kept in try copy(part, to: kept) }
  }

  private func forEach(
    _ adapters: Adapters, of columns: Tensor, _ body: (LowRankPair, Tensor, Tensor) throws -> Void
  ) throws {
    var first = 0
    for (pair, kept) in zip(adapters.pairs, adapters.kept) {
      guard let pair, let kept else { continue }
      try body(pair, columns.columns(first..<first + pair.rank), kept)
      first += pair.rank
    }
  }

  /// s·B of every adapter into the columns behind the group's weights.
  private func writeBehind(_ group: OpenMatrices, _ adapters: Adapters) throws {
    func outputs(_ index: Int) -> UInt64 { (index < group.outputs.count ? group.outputs[index] : 0).word }
    func pair(_ index: Int) -> LowRankPair? { index < adapters.pairs.count ? adapters.pairs[index] : nil }
    let tail = group.behind(adapters.rank)
    let blocks = min((tail.count + 255) / 256, context.multiprocessors * 8)
    try launch(
      "block_diagonal", Grid(x: blocks, threadsX: 256),
      (0..<3).map(outputs) + (0..<3).map { Int32(pair($0)?.rank ?? 0).word }
        + (0..<3).map { (pair($0)?.scaledB).word } + [tail.word, tail.rowStride.word, Int32(adapters.rank).word])
  }

  /// A of every adapter into the rows below the group's weights.
  private func writeBelow(_ group: OpenMatrices, _ adapters: Adapters) throws {
    let below = group.below(adapters.rank)
    var first = 0
    for case let pair? in adapters.pairs {
      try copy(pair.a, to: below.rows(first..<first + pair.rank))
      first += pair.rank
    }
  }

  // MARK: Products

  /// c = op(a) · op(b), or added to c.
  func product(
    _ a: Tensor, _ b: Tensor, transposeA: Bool = false, transposeB: Bool = false, into c: Tensor,
    accumulate: Bool = false
  ) throws {
    let k = transposeA ? a.rows : a.columns
    assert(k == (transposeB ? b.columns : b.rows) && c.rows == (transposeA ? a.columns : a.rows))
    assert(c.columns == (transposeB ? b.rows : b.columns) && a.dtype == .bfloat16 && b.dtype == .bfloat16)
    guard c.count > 0 else { return }
    try context.enter()
    if let products, try products.multiply(a, transposeA, b, transposeB, into: c, accumulate: accumulate) { return }
    try launch(
      "product_\(suffix(c))",
      Grid(x: (c.columns + 31) / 32, y: (c.rows + 31) / 32, threadsX: 32, threadsY: 8),
      [
        c.rows.word, c.columns.word, k.word, a.word, a.rowStride.word, transposeA.word, b.word, b.rowStride.word,
        transposeB.word, c.word, c.rowStride.word, accumulate.word,
      ])
  }

  /// x as a pair's A sees it: x itself, or a dropped copy that lives until the next call.
  private func dropped(_ x: Tensor, _ pair: LowRankPair, _ dropout: DropoutKey?) throws -> Tensor {
    guard let dropout, pair.dropout > 0 else { return x }
    let y = Tensor(
      try scratch(.dropped, byteCount: x.count * 2), rows: x.rows, columns: x.columns, dtype: .bfloat16)
    try launch(
      "dropout", .rows(x.rows, by: (x.columns + 7) / 8),
      [x.rows.word, x.columns.word, x.word, x.rowStride.word, y.word, y.rowStride.word] + dropoutWords(pair, dropout)
        + [isAligned(x, y).word])
    return y
  }

  /// Threshold, factor, seed, stream and first row: as the CPU draws.
  func dropoutWords(_ pair: LowRankPair, _ key: DropoutKey) -> [UInt64] {
    [
      UInt32(Double(pair.dropout) * 4_294_967_296).word, (1 / (1 - pair.dropout)).word, key.seed.word,
      pair.dropoutStream(key).word, key.firstRow.word,
    ]
  }
}
