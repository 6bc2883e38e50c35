import CUDADriver
import Tensors

// Products of a few rows, as decoding has them, read the weights once and never open them.
extension CUDADevice {
  /// Matrices that one launch multiplies.
  private struct Parts {
    var indices: [Int]
    var isInNF4: Bool
    /// The most rows with which this is faster than to open the matrices and multiply them as any others.
    var mostRows: Int { isInNF4 ? 64 : 16 }
    /// The map of NF4's absmax codes.
    var map: Tensor?
  }

  /// RMSNorm of the residual stream: γ, fp32, and ε.
  struct Norm {
    var gamma: Tensor
    var epsilon: Float

    /// As the kernels' structures have it.
    func words(of stream: Tensor) -> [UInt64] { [stream.word, gamma.word, Double(epsilon).bitPattern] }
  }

  /// y of each projection, and silu(gate) · up in `activation` where the two projections are gate and up; false where a matrix
  /// is kept in a way that wants it opened, or an adapter learns.
  ///
  /// With `norm`, x is the residual stream that the norm is to be made of; false also where that is better made first.
  func linearOfFewRows(
    _ x: Tensor, _ projections: [Projection], _ outputs: [Tensor], _ lowRank: [Tensor?], accumulate: Bool = false,
    activation: Tensor? = nil, norm: Norm? = nil
  ) throws -> Bool {
    guard (1...64).contains(x.rows), x.columns % 64 == 0, isAligned(x), (1...3).contains(projections.count),
      // What learns goes through whole tiles of rows, forward as backward.
      x.rows < rowAlignment || projections.allSatisfy({ $0.lowRank?.gradientA == nil && $0.gradient == nil }),
      outputs.allSatisfy({ $0.dtype == outputs[0].dtype }),
      projections.allSatisfy({ $0.lowRank.map { $0.a.isDense && $0.scaledB.isDense } ?? true }),
      let launches = try launches(of: projections), launches.allSatisfy({ x.rows <= $0.mostRows }),
      activation == nil || launches.count == 1
    else { return false }
    let works = launches.compactMap { parts in
      FewRows(
        rows: parts.indices.map { projections[$0].outputs }, columns: x.columns, batch: x.rows,
        isPaired: activation != nil, isInNF4: parts.isInNF4, context: context)
    }
    guard works.count == launches.count, norm == nil || works.allSatisfy(\.makesNorm) else { return false }
    try multiplyAdapters(x, projections, lowRank, norm)
    for (parts, work) in zip(launches, works) {
      try multiplyFewRows(x, parts, work, projections, outputs, lowRank, accumulate, activation, norm)
    }
    return true
  }

  /// Which matrices go together; nil where one cannot be read where it lies.
  private func launches(of projections: [Projection]) throws -> [Parts]? {
    var launches: [Parts] = []
    for (index, projection) in projections.enumerated() {
      var parts: Parts
      switch try own(projection.matrix).stored(on: self) {
      case .nf4(let matrix):
        guard case .nested(_, _, let map, _, _) = matrix.absmax, isAligned(matrix.codes) else { return nil }
        parts = Parts(indices: [index], isInNF4: true, map: map)
      case .int8: return nil
      case .operands(let tensor):
        guard isAligned(tensor) else { return nil }
        parts = Parts(indices: [index], isInNF4: false)
      }
      if let last = launches.last, last.isInNF4 == parts.isInNF4, last.map?.address == parts.map?.address {
        parts.indices = last.indices + parts.indices
        launches.removeLast()
      }
      launches.append(parts)
    }
    return launches
  }

  /// x · Aᵀ of every adapter.
  private func multiplyAdapters(
    _ x: Tensor, _ projections: [Projection], _ lowRank: [Tensor?], _ norm: Norm?
  ) throws {
    var words: [UInt64] = []
    var (rank, sixteens, isAligned) = (0, 0, isAligned(x))
    for (projection, s) in zip(projections, lowRank) {
      guard let pair = projection.lowRank, let s else { continue }
      words += [pair.a.word, pair.rank.word, s.word, s.rowStride.word]
      rank += pair.rank
      sixteens += (pair.rank + 15) / 16
      isAligned = isAligned && self.isAligned(pair.a)
    }
    guard rank > 0 else { return }
    words += [UInt64](repeating: 0, count: 12 - words.count)
    words += [x.columns.word, x.rows.word, x.word, x.rowStride.word, UInt64(isAligned ? 1 : 0)]
    words += norm?.words(of: x) ?? [0, 0, 0]
    guard x.rows > 1, isAligned else {
      try launch("rows_adapters", Grid(x: rank, threadsX: 256), structure: words + [1, 0, 0])
      return
    }
    // A block for about 1,280 columns, and no more blocks than multiprocessors.
    let eights = (x.rows + 7) / 8
    let splits = max(1, min((x.columns + 1279) / 1280, context.multiprocessors / (sixteens * eights)))
    let partial = try scratch(.adapterSums, byteCount: sixteens * eights * splits * 512)
    let done = try splitsDone(count: sixteens * eights)
    try launch(
      "rows_adapters_many", Grid(x: sixteens, y: eights * splits, threadsX: 512),
      structure: words + [splits.word, UInt64(partial.address), UInt64(done.address)])
  }

  private func multiplyFewRows(
    _ x: Tensor, _ parts: Parts, _ work: FewRows, _ projections: [Projection], _ outputs: [Tensor],
    _ lowRank: [Tensor?], _ accumulate: Bool, _ activation: Tensor?, _ norm: Norm?
  ) throws {
    var words: [UInt64] = []
    var rows: [Int] = []
    for index in parts.indices {
      let pair = lowRank[index] == nil ? nil : projections[index].lowRank
      rows.append(projections[index].outputs)
      switch try own(projections[index].matrix).stored(on: self) {
      case .nf4(let matrix):
        guard case .nested(let codes, let nested, _, let offset, let first) = matrix.absmax else { return }
        words += [
          matrix.rows.word, matrix.codes.word, 0, codes.word, nested.word, offset.word, first.word,
        ]
      case .int8: return
      case .operands(let tensor):
        words += [tensor.rows.word, tensor.word, tensor.rowStride.word, 0, 0, 0, 0]
      }
      let s = pair == nil ? nil : lowRank[index]
      words += [
        (pair?.scaledB).word, s.word, (s?.rowStride ?? 0).word, (pair?.rank ?? 0).word, outputs[index].word,
        outputs[index].rowStride.word,
      ]
    }
    words += [UInt64](repeating: 0, count: (3 - parts.indices.count) * 13)
    var partial: DeviceBuffer?
    if work.slices > 1 {
      partial = try scratch(.rowSlices, byteCount: work.slices * x.rows * rows.reduce(0, +) * 4)
    }
    words += [
      parts.indices.count.word, x.columns.word, x.rows.word, x.word, x.rowStride.word, parts.map.word,
      work.slice.word, work.slices.word, UInt64(partial?.address ?? 0),
      UInt64(outputs[0].dtype == .float32 ? 1 : 0), UInt64(accumulate ? 1 : 0), activation.word,
      (activation?.rowStride ?? 0).word,
    ]
    words += (norm?.words(of: x) ?? [0, 0, 0]) + [UInt64(work.isAdapted ? 1 : 0)]
    try launch(work.kernel, work.grid, sharedBytes: work.sharedBytes, structure: words)
    guard work.slices > 1 else { return }
    let columns = activation == nil ? rows.reduce(0, +) : rows[0]
    try launch("rows_sum", Grid(x: (columns + 255) / 256, y: x.rows, threadsX: 256), structure: words)
  }
}

extension CUDADevice {
  /// Gate, up and their activation: one product where there are few rows.
  public func linearSwiGLU(
    _ x: Tensor, _ gateUp: [Projection], gate: Tensor, up: Tensor, lowRank: [Tensor?], into activation: Tensor,
    dropout: DropoutKey?
  ) throws {
    if dropout == nil, gate.columns == up.columns,
      try linearOfFewRows(x, gateUp, [gate, up], lowRank, activation: activation)
    {
      return
    }
    try linear(x, gateUp, into: [gate, up], lowRank: lowRank, accumulate: false, dropout: dropout)
    try swiGLU(gate, up, into: activation)
  }
}
