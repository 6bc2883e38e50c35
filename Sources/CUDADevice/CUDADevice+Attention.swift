// The documentation of what this implements stands in `Device`.
// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

import CUDADriver
import Tensors

// Flash attention with own kernels: documents become tiles, the longest first, so that the last blocks to run are short.
extension CUDADevice {
  public func attention(
    _ q: Tensor, _ k: Tensor, _ v: Tensor, _ shape: AttentionShape, _ spans: [AttentionSpan], into output: Tensor,
    logSumExp: Tensor?
  ) throws {
    if let logSumExp, let problem = problem(q, k, v, output, logSumExp, shape, spans) {
      let addresses = sl_attention_addresses(
        q: q.word, k: k.word, v: v.word, o: output.word, statistics: logSumExp.word, dout: 0, dq: 0, dk: 0, dv: 0)
      if try solve(problem, addresses, nil) { return }
    }
    try attend(q, k, v, shape, spans, into: output, logSumExp: logSumExp, pages: [0, 0, 0])
  }

  /// Our kernel; `pages`: where keys and values lie in pages, the list of those and the layer's places in each, else zeros.
  func attend(
    _ q: Tensor, _ k: Tensor, _ v: Tensor, _ shape: AttentionShape, _ spans: [AttentionSpan], into output: Tensor,
    logSumExp: Tensor?, pages: [UInt64]
  ) throws {
    let width = try tileWidth(shape)
    let tiles = try queryTiles(spans)
    try launch(
      "attention_forward_\(width)", Grid(x: tiles.columns / 4, y: shape.heads, threadsX: 128),
      sharedBytes: 4 * 64 * (width + 8) * 2,
      [
        tiles.word, q.word, q.rowStride.word, k.word, k.rowStride.word, v.word, v.rowStride.word, output.word,
        output.rowStride.word, logSumExp.word, (logSumExp?.rowStride ?? 0).word,
        Int32(shape.heads / shape.keyValueHeads).word, Int32(shape.headDimension).word, Int32(shape.window ?? 0).word,
        shape.scale.word, (isAligned(q, k, v, output) && shape.headDimension % 8 == 0).word,
      ] + pages)
  }

  public func attentionBackward(
    _ dOutput: Tensor, _ q: Tensor, _ k: Tensor, _ v: Tensor, _ output: Tensor, logSumExp: Tensor,
    _ shape: AttentionShape, _ spans: [AttentionSpan], into dq: Tensor, _ dk: Tensor, _ dv: Tensor, workspace: Tensor
  ) throws {
    let inPlace = dq.address == q.address
    let needed = attentionWorkspace(shape, spans, inPlace: inPlace)
    guard workspace.byteCount >= needed else {
      throw DeviceError("attention was given \(workspace.byteCount) bytes to work in, it needs \(needed)")
    }
    let rows = spans.map(\.queries.upperBound).max() ?? 0
    // Gradients that take the places of what they are computed from wait beside until a slice of heads is done with it.
    let atOnce = keyHeadsAtOnce(shape.keyValueHeads, of: shape.heads, rows: rows)
    let sliceBytes = inPlace ? gradientSliceBytes(shape, rows: rows) : 0
    let room = workspace.columns(sliceBytes..<workspace.columns)
    let arguments = BackwardArguments(
      dOutput: dOutput, q: q, k: k, v: v, output: output, logSumExp: logSumExp, dq: dq, dk: dk, dv: dv)
    func slice(_ first: Int, _ count: Int) -> BackwardArguments {
      var part = arguments.slice(keyHeads: first..<first + count, of: shape)
      if inPlace { part.gradients(into: workspace, rows: rows) }
      return part
    }
    func finish(_ part: BackwardArguments, _ first: Int, _ count: Int) throws {
      guard inPlace else { return }
      let target = arguments.slice(keyHeads: first..<first + count, of: shape)
      for (from, to) in [(part.dq, target.dq), (part.dk, target.dk), (part.dv, target.dv)] {
        try copy(from, to: to.prefix(from.rows))
      }
    }
    if let problem = problem(q, k, v, output, logSumExp, shape, spans), isAligned(dOutput, dq, dk, dv) {
      var first = 0
      while first < shape.keyValueHeads {
        let part = slice(first, atOnce)
        // Where cuDNN has no engine for the first heads, it has none for others.
        guard try solveBackward(problem, part, keyHeads: atOnce, room) else { break }
        try finish(part, first, atOnce)
        first += atOnce
      }
      if first > 0 { return }
    }
    let delta = Tensor(room.buffer, byteOffset: room.byteOffset, rows: shape.heads, columns: rows, dtype: .float32)
    try launch(
      "attention_delta", Grid(x: (rows + 3) / 4, y: shape.heads, threadsX: 128),
      [
        rows.word, output.word, output.rowStride.word, dOutput.word, dOutput.rowStride.word, delta.word,
        Int32(shape.headDimension).word,
      ])
    let step = inPlace ? atOnce : shape.keyValueHeads
    for first in stride(from: 0, to: shape.keyValueHeads, by: step) {
      let part = slice(first, step)
      let group = shape.heads / shape.keyValueHeads
      try attendBackward(part, delta.rows(first * group..<(first + step) * group), shape, spans)
      try finish(part, first, step)
    }
  }

  /// Our kernels, over the heads that the arguments hold.
  private func attendBackward(
    _ a: BackwardArguments, _ delta: Tensor, _ shape: AttentionShape, _ spans: [AttentionSpan]
  ) throws {
    let width = try tileWidth(shape)
    let group = shape.heads / shape.keyValueHeads
    let heads = delta.rows
    let aligned = isAligned(a.dOutput, a.q, a.k, a.v, a.output, a.dq, a.dk, a.dv) && shape.headDimension % 8 == 0
    let inputs = [
      a.q.word, a.q.rowStride.word, a.k.word, a.k.rowStride.word, a.v.word, a.v.rowStride.word, a.dOutput.word,
      a.dOutput.rowStride.word, a.logSumExp.word, a.logSumExp.rowStride.word, delta.word, delta.columns.word,
    ]
    let numbers = [
      Int32(group).word, Int32(shape.headDimension).word, Int32(shape.window ?? 0).word, shape.scale.word, aligned.word,
    ]
    let keyTiles = try keyTiles(spans)
    try launch(
      "attention_keys_values_\(width)", Grid(x: keyTiles.columns / 8, y: heads / group, threadsX: 128),
      sharedBytes: (2 * 64 + 4 * 32) * (width + 8) * 2 + 4 * 32 * 4,
      [keyTiles.word] + inputs + [a.dk.word, a.dk.rowStride.word, a.dv.word, a.dv.rowStride.word] + numbers)
    let queryTiles = try queryTiles(spans)
    try launch(
      "attention_queries_\(width)", Grid(x: queryTiles.columns / 4, y: heads, threadsX: 128),
      sharedBytes: 4 * 32 * (width + 8) * 2,
      [queryTiles.word] + inputs + [a.dq.word, a.dq.rowStride.word] + numbers)
  }

  public func attentionWorkspace(_ shape: AttentionShape, _ spans: [AttentionSpan], inPlace: Bool) -> Int {
    let rows = spans.map(\.queries.upperBound).max() ?? 0
    // Our kernels keep a sum per row and head. cuDNN was measured to take 8 bytes per element of q, beside the gradient of
    // q in fp32; where it takes more, it gets memory of its own.
    let keyHeads = keyHeadsAtOnce(shape.keyValueHeads, of: shape.heads, rows: rows)
    let elements = rows * keyHeads * (shape.heads / shape.keyValueHeads) * shape.headDimension
    return rows * shape.heads * 8 + (attentionPlans?.length(shape, spans) == nil ? 0 : elements * 12 + (4 << 20))
      + (inPlace ? gradientSliceBytes(shape, rows: rows) : 0)
  }

  /// Bytes of the gradients of the heads that go through at once.
  private func gradientSliceBytes(_ shape: AttentionShape, rows: Int) -> Int {
    let keyHeads = keyHeadsAtOnce(shape.keyValueHeads, of: shape.heads, rows: rows)
    let columns = keyHeads * (shape.heads / shape.keyValueHeads + 2) * shape.headDimension
    return Self.allocated(rows * columns * 2)
  }

  // MARK: cuDNN

  /// The problem as cuDNN is asked for it, where it may be.
  private func problem(
    _ q: Tensor, _ k: Tensor, _ v: Tensor, _ output: Tensor, _ logSumExp: Tensor, _ shape: AttentionShape,
    _ spans: [AttentionSpan]
  ) -> sl_attention_problem? {
    guard let length = attentionPlans?.length(shape, spans), spans[0].queries.lowerBound == 0,
      isAligned(q, k, v, output, logSumExp)
    else { return nil }
    return sl_attention_problem(
      batch: Int64(spans.count), length: Int64(length), heads: Int64(shape.heads),
      keyHeads: Int64(shape.keyValueHeads), width: Int64(shape.headDimension), ldq: Int64(q.rowStride),
      ldk: Int64(k.rowStride), ldv: Int64(v.rowStride), ldo: Int64(output.rowStride),
      ldStatistics: Int64(logSumExp.rowStride), lddo: 0, lddq: 0, lddk: 0, lddv: 0, scale: shape.scale, backward: 0,
      deterministic: 0)
  }

  /// Heads of keys that go through cuDNN's backward pass at once: as few as still fill the card several times with tiles of 128
  /// queries, since what it works in grows with them, and is the largest part of a long step otherwise.
  private func keyHeadsAtOnce(_ keyHeads: Int, of heads: Int, rows: Int) -> Int {
    let tiles = max(1, rows / 128 * (heads / max(1, keyHeads)))
    let wanted = (4 * context.multiprocessors + tiles - 1) / tiles
    return (1...max(1, keyHeads)).first { $0 >= wanted && keyHeads % $0 == 0 } ?? keyHeads
  }

  /// cuDNN's backward pass over the heads that the arguments hold; false where it has no engine for the problem.
  private func solveBackward(
    _ whole: sl_attention_problem, _ a: BackwardArguments, keyHeads: Int, _ workspace: Tensor
  ) throws -> Bool {
    var problem = whole
    problem.backward = 1
    (problem.heads, problem.keyHeads) = (Int64(keyHeads) * whole.heads / whole.keyHeads, Int64(keyHeads))
    problem.lddo = Int64(a.dOutput.rowStride)
    problem.lddq = Int64(a.dq.rowStride)
    problem.lddk = Int64(a.dk.rowStride)
    problem.lddv = Int64(a.dv.rowStride)
    let addresses = sl_attention_addresses(
      q: a.q.word, k: a.k.word, v: a.v.word, o: a.output.word, statistics: a.logSumExp.word, dout: a.dOutput.word,
      dq: a.dq.word, dk: a.dk.word, dv: a.dv.word)
    return try solve(problem, addresses, workspace)
  }

  private func solve(
    _ problem: sl_attention_problem, _ addresses: sl_attention_addresses, _ workspace: Tensor?
  ) throws -> Bool {
    try context.enter()
    return try attentionPlans?.run(problem, addresses) { needed in
      if let workspace, workspace.byteCount >= needed, workspace.address % 256 == 0 { return workspace.address }
      return try scratch(.attention, byteCount: needed).address
    } ?? false
  }

  // MARK: Tiles

  /// The head width that a kernel was built for.
  func tileWidth(_ shape: AttentionShape) throws -> Int {
    guard let width = [64, 96, 128].first(where: { $0 >= shape.headDimension }) else {
      throw DeviceError("attention heads of \(shape.headDimension) features are wider than the GPU's kernels take: 128")
    }
    return width
  }

  /// Tiles of 64 queries: {first row of q, rows, first row of k and v, keys that the first query sees}.
  private func queryTiles(_ spans: [AttentionSpan]) throws -> Tensor {
    try arrays.tiles(HostArrays.TileKey(spans: spans, kind: 0)) {
      var tiles: [(work: Int, values: [Int])] = []
      for span in spans {
        let before = span.keys.count - span.queries.count
        for start in stride(from: 0, to: span.queries.count, by: 64) {
          let rows = min(64, span.queries.count - start)
          tiles.append(
            (before + start + rows, [span.queries.lowerBound + start, rows, span.keys.lowerBound, before + start + 1]))
        }
      }
      return longestFirst(tiles)
    }
  }

  /// Tiles of 64 keys: {first row of k and v, rows, first row of q, queries, the query that sees the first key, 0, 0, 0}.
  private func keyTiles(_ spans: [AttentionSpan]) throws -> Tensor {
    try arrays.tiles(HostArrays.TileKey(spans: spans, kind: 1)) {
      var tiles: [(work: Int, values: [Int])] = []
      for span in spans {
        let before = span.keys.count - span.queries.count
        for start in stride(from: 0, to: span.keys.count, by: 64) {
          let diagonal = start - before
          tiles.append(
            (
              span.queries.count - max(0, diagonal),
              [
                span.keys.lowerBound + start, min(64, span.keys.count - start), span.queries.lowerBound,
                span.queries.count, diagonal, 0, 0, 0,
              ]
            ))
        }
      }
      return longestFirst(tiles)
    }
  }

  private func longestFirst(_ tiles: [(work: Int, values: [Int])]) -> [Int32] {
    tiles.sorted { $0.work > $1.work }.flatMap { $0.values.map { Int32(truncatingIfNeeded: $0) } }
  }
}

/// What attention's backward pass reads and writes, of all heads or of some.
private struct BackwardArguments {
  var dOutput, q, k, v, output, logSumExp, dq, dk, dv: Tensor

  /// That of some heads of keys, and of the queries that share them.
  func slice(keyHeads: Range<Int>, of shape: AttentionShape) -> BackwardArguments {
    let (d, group) = (shape.headDimension, shape.heads / shape.keyValueHeads)
    let narrow = keyHeads.lowerBound * d..<keyHeads.upperBound * d
    let wide = narrow.lowerBound * group..<narrow.upperBound * group
    let heads = keyHeads.lowerBound * group..<keyHeads.upperBound * group
    return BackwardArguments(
      dOutput: dOutput.columns(wide), q: q.columns(wide), k: k.columns(narrow), v: v.columns(narrow),
      output: output.columns(wide), logSumExp: logSumExp.rows(heads), dq: dq.columns(wide), dk: dk.columns(narrow),
      dv: dv.columns(narrow))
  }

  /// Puts the gradients of `rows` rows at the beginning of a workspace, side by side.
  mutating func gradients(into workspace: Tensor, rows: Int) {
    let (wide, narrow) = (dq.columns, dk.columns)
    let all = Tensor(
      workspace.buffer, byteOffset: workspace.byteOffset, rows: rows, columns: wide + 2 * narrow, dtype: dq.dtype)
    dq = all.columns(0..<wide)
    dk = all.columns(wide..<wide + narrow)
    dv = all.columns(wide + narrow..<wide + 2 * narrow)
  }
}
