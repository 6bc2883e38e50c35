import CUDADriver
import Tensors

// Products of a few rows, as decoding has them, read the weights once and never open them.
extension CUDADevice {
  /// Matrices that one launch multiplies.
  private struct Parts {
    var indices: [Int]
    var isInNF4: Bool
    /// The most rows with which this is faster than to open the matrices and multiply them as any others: 16 cost one reading.
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
    var (rank, isAligned) = (0, isAligned(x))
    for (projection, s) in zip(projections, lowRank) {
      guard let pair = projection.lowRank, let s else { continue }
      words += [pair.a.word, pair.rank.word, s.word, s.rowStride.word]
      rank += pair.rank
      isAligned = isAligned && self.isAligned(pair.a)
    }
    guard rank > 0 else { return }
    words += [UInt64](repeating: 0, count: 12 - words.count)
    try launch(
      "rows_adapters", Grid(x: rank, threadsX: 256),
      structure: words + [x.columns.word, x.rows.word, x.word, x.rowStride.word, UInt64(isAligned ? 1 : 0)]
        + (norm?.words(of: x) ?? [0, 0, 0]))
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
    words += norm?.words(of: x) ?? [0, 0, 0]
    try launch(work.kernel, work.grid, sharedBytes: work.sharedBytes, structure: words)
    guard work.slices > 1 else { return }
    let columns = activation == nil ? rows.reduce(0, +) : rows[0]
    try launch("rows_sum", Grid(x: (columns + 255) / 256, y: x.rows, threadsX: 256), structure: words)
  }
}

/// How a product of a few rows is divided among blocks.
private struct FewRows {
  /// Eights of rows of x that a block takes at once.
  var halves: Int
  /// Blocks of 64 columns that a thread block takes, and how many such slices there are.
  var slice: Int
  var slices: Int
  var sharedBytes: Int
  var grid: CUDADevice.Grid
  var kernel: String
  /// Whether x may be the residual stream, of which the kernel makes a norm: only those of one row do.
  var makesNorm = false

  /// nil where x does not fit.
  init?(rows: [Int], columns: Int, batch: Int, isPaired: Bool, isInNF4: Bool, context: CUDAContext) {
    let one =
      batch > 1
      ? nil
      : isInNF4
        ? FewRows(oneInNF4: rows, columns: columns, isPaired: isPaired, context: context)
        : FewRows(oneInBF16: rows, columns: columns, isPaired: isPaired, context: context)
    if let one {
      self = one
    } else if isInNF4, batch > 16,
      let many = FewRows(manyInNF4: rows, columns: columns, batch: batch, isPaired: isPaired, context: context)
    {
      self = many
    } else if isInNF4, batch <= 32 {
      self.init(inNF4: rows, columns: columns, batch: batch, isPaired: isPaired, context: context)
    } else if isInNF4 {
      return nil
    } else {
      self.init(inBF16: rows, columns: columns, batch: batch, isPaired: isPaired, context: context)
    }
  }

  /// One row with matrices in NF4 (`rows_nf4_one.cu`): no part of x and of its columns is left to other blocks; nil where x does
  /// not fit.
  init?(oneInNF4 rows: [Int], columns: Int, isPaired: Bool, context: CUDAContext) {
    // Pieces of 1,024 columns that a warp takes of a row, and the most warps of a block.
    let (name, pieces, most) =
      columns <= 10 << 10 ? ("1", 1, 10) : columns <= 18 << 10 ? ("2", 2, 9) : ("wide", 2, 18)
    self.init(
      one: "rows_nf4_one_\(name)", rows: rows, columns: columns, columnsOfWarp: pieces * 1024, mostWarps: most,
      isPaired: isPaired, context: context
    ) { share, teamWarps, _ in
      // Behind the table of codes and what all blocks keep: absmax codes and nested values of the share, then x, whose place the
      // sums of rows take.
      let absmax = share * columns / 64
      let scales = (absmax + 46) / 16 * 16 + (absmax / 256 + 6) / 4 * 16
      let sums = share * (isPaired ? 2 : 1) * (teamWarps + 1) * 4
      return (65 << 10) + 128 + scales * (isPaired ? 2 : 1) + max(teamWarps * pieces * 2048, sums)
    }
  }

  /// One row with matrices in bf16 (`rows_bf16_one.cu`).
  init?(oneInBF16 rows: [Int], columns: Int, isPaired: Bool, context: CUDAContext) {
    // Pieces of 256 columns that a warp takes of a row: so many that few are none and no more than 12 warps are needed.
    let pieces = (columns + 255) / 256
    let least = (pieces + 11) / 12
    func padded(_ own: Int) -> Int { (pieces + own - 1) / own * own }
    let own = (least...least + least / 2).min { padded($0) < padded($1) } ?? least
    self.init(
      one: "rows_bf16_one", rows: rows, columns: columns, columnsOfWarp: own * 256, mostWarps: 12, isPaired: isPaired,
      context: context
    ) { share, teamWarps, teams in
      // Sums of squares, the ring, x, sums of as many rows as are finished at once.
      let slots = min(share * (isPaired ? 2 : 1), 256 * teams)
      return 128 + teams * teamWarps * 3 * 2048 + padded(own) * 512 + slots * (teamWarps + 1) * 4
    }
  }

  /// One row: every multiprocessor gets one block.
  ///
  /// `bytes`: shared memory of a block for its share of the rows, the warps of a team and its teams.
  private init?(
    one kernel: String, rows: [Int], columns: Int, columnsOfWarp: Int, mostWarps: Int, isPaired: Bool,
    context: CUDAContext, bytes: (_ share: Int, _ teamWarps: Int, _ teams: Int) -> Int
  ) {
    let teamWarps = (columns + columnsOfWarp - 1) / columnsOfWarp
    guard teamWarps <= mostWarps else { return nil }
    let teams = mostWarps / teamWarps
    let units = isPaired ? [rows[0]] : rows
    let blocks = min(units.reduce(0, +), context.multiprocessors)
    guard blocks >= units.count else { return nil }
    sharedBytes = bytes(Self.mostRows(units, blocks: blocks), teamWarps, teams)
    guard sharedBytes <= context.sharedMemory else { return nil }
    // While gate and up and the kernels around them overlap, each multiprocessor is to get one of their blocks.
    if isPaired, let overHalf = context.overHalf { sharedBytes = max(sharedBytes, overHalf) }
    halves = 1
    (slice, slices) = (columns / 64, 1)
    self.kernel = kernel
    makesNorm = true
    grid = CUDADevice.Grid(x: blocks, threadsX: teams * teamWarps * 32)
  }

  /// The most rows that fall to one of `blocks` blocks where each part has its own, about as many as its rows ask for: as the
  /// kernel divides them.
  private static func mostRows(_ parts: [Int], blocks: Int) -> Int {
    var (rows, left, most) = (parts.reduce(0, +), blocks, 0)
    for (index, part) in parts.enumerated() {
      let others = parts.count - 1 - index
      let own = others == 0 ? left : min(max(1, (part * left + rows / 2) / max(1, rows)), left - others)
      most = max(most, (part + own - 1) / own)
      (left, rows) = (left - own, rows - part)
    }
    return most
  }

  /// Several rows with matrices in NF4 (`rows_nf4.cu`): warps take 256 columns at a time; nil where x does not fit.
  init?(inNF4 rows: [Int], columns: Int, batch: Int, isPaired: Bool, context: CUDAContext) {
    halves = batch > 8 ? 2 : 1
    let passes = (batch + 8 * halves - 1) / (8 * halves)
    let atOnce = min(batch, 8 * halves)
    let pieces = (columns + 255) / 256
    let units = isPaired ? [rows[0]] : rows
    /// As few slices as x has room for, with as many warps as come out even; `rest`: a block's memory beside items, x and nested
    /// values.
    func best(warps: [Int], itemBytes: Int, rest: Int) -> (slices: Int, warps: Int, bytes: Int, blocks: Int)? {
      for slices in 1...pieces {
        let ofSlice = (pieces + slices - 1) / slices
        let wanted = min((units.reduce(0, +) + 7) / 8, context.multiprocessors / (slices * passes))
        let blocks = max(units.count, wanted)
        let nested = Self.mostRows(units, blocks: blocks) * (columns / 64) / 256 + 2
        func bytes(_ warps: Int) -> Int {
          rest + warps * 2 * itemBytes + ofSlice * 512 * atOnce + nested * 4 * (isPaired ? 2 : 1)
        }
        func idle(_ warps: Int) -> Int { (ofSlice + warps - 1) / warps * warps - ofSlice }
        let fitting = warps.filter { bytes($0) <= context.sharedMemory }
        guard let most = fitting.min(by: { idle($0) < idle($1) }) else { continue }
        return (slices, most, bytes(most), blocks)
      }
      return nil
    }
    let table = 64 << 10
    let large = best(warps: [10, 9, 8], itemBytes: 4096, rest: table)
    // Where memory is little codes lie in the table, and what lies there else behind it.
    guard let best = large ?? best(warps: [4], itemBytes: 0, rest: table + 96 * 128) else { return nil }
    (slice, slices, sharedBytes) = (0, best.slices, best.bytes)
    kernel = "rows_nf4_\(halves * 8)\(large == nil ? "_small" : "")"
    grid = CUDADevice.Grid(x: best.blocks, y: best.slices * passes, threadsX: best.warps * 32)
  }

  /// 17 to 64 rows with matrices in NF4 (`rows_nf4_many.cu`); nil where a block's memory has no room for it.
  init?(manyInNF4 rows: [Int], columns: Int, batch: Int, isPaired: Bool, context: CUDAContext) {
    halves = batch > 48 ? 8 : batch > 32 ? 6 : 4
    kernel = "rows_nf4_\(halves * 8)"
    let units = (columns + 255) / 256
    let elements = batch * rows.reduce(0, +)
    var best: (tiles: Int, slices: Int, warps: Int, bytes: Int, cost: Double)?
    for warps in halves > 4 ? [8] : [10, 9, 8] {
      let tileRows = warps * (isPaired ? 16 : 32)
      let tiles = (isPaired ? [rows[0]] : rows).map { ($0 + tileRows - 1) / tileRows }.reduce(0, +)
      let nested = tileRows * (columns / 64) / 256 + 2
      let bytes = (64 << 10) + warps * 2 * 4096 + 2 * 8 * (8 * halves + 1) * 64 + nested * 4 * (isPaired ? 2 : 1)
      guard bytes <= context.sharedMemory else { continue }
      for slices in 1...min(units, 16) {
        // In microseconds, about: blocks one after the other on a multiprocessor take a unit of 256 columns in so much time, and a
        // little more to begin and end; the slices' sums are written and read again.
        let turns = (tiles * slices + context.multiprocessors - 1) / context.multiprocessors
        let unit = 0.05 * Double(warps * (halves + 4))
        let sums = slices > 1 ? 6 + Double(slices * elements) / 400_000 : 0
        let cost = Double(turns) * (Double((units + slices - 1) / slices) + 1.5) * unit + sums
        if cost < best?.cost ?? .infinity { best = (tiles, slices, warps, bytes, cost) }
      }
    }
    guard let best else { return nil }
    (slice, slices, sharedBytes) = (0, best.slices, best.bytes)
    grid = CUDADevice.Grid(x: best.tiles, y: best.slices, threadsX: best.warps * 32)
  }

  /// Several rows with matrices in bf16 (`rows_bf16.cu`).
  init(inBF16 rows: [Int], columns: Int, batch: Int, isPaired: Bool, context: CUDAContext) {
    halves = batch > 8 ? 2 : 1
    let atOnce = min(batch, 16)
    let passes = (batch + 15) / 16
    let blocks = columns / 64
    // Two sets of the warps' sums.
    let fixed = 2 * 8 * 8 * halves * 8 * 4
    // Two blocks share a multiprocessor, as their registers allow, with a part of x where not all of it fits.
    let room = min(context.sharedMemory, context.multiprocessorMemory / 2 - 1024) - fixed
    let fits = max(1, room / (atOnce * 128))
    slices = (blocks + fits - 1) / fits
    slice = (blocks + slices - 1) / slices
    slices = (blocks + slice - 1) / slice
    kernel = "rows_bf16_\(halves * 8)"
    sharedBytes = fixed + atOnce * slice * 128
    let tiles = rows.map { ($0 + 7) / 8 }
    let units = isPaired ? tiles[0] : tiles.reduce(0, +)
    let resident = max(1, context.multiprocessors * 2 / (slices * passes))
    grid = CUDADevice.Grid(x: min(units, resident), y: slices * passes, threadsX: 256)
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
