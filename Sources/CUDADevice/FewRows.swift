/// How a product of a few rows is divided among blocks.
struct FewRows {
  /// Slices of the columns that different blocks take, and with matrices in bf16 their blocks of 64 columns.
  var slices: Int
  var slice: Int
  var sharedBytes: Int
  var grid: CUDADevice.Grid
  var kernel: String
  /// Whether x may be the residual stream, of which the kernel makes a norm: only those of one row do.
  var makesNorm = false
  /// Whether the kernel's sums hold what adapters add: on the tensor cores, where there are several rows with matrices in NF4.
  var isAdapted = false

  /// Of one row or `batch` rows of x with matrices of `rows` rows each; nil where x does not fit.
  init?(rows: [Int], columns: Int, batch: Int, isPaired: Bool, isInNF4: Bool, context: CUDAContext) {
    let one =
      batch > 1
      ? nil
      : isInNF4
        ? FewRows(oneInNF4: rows, columns: columns, isPaired: isPaired, context: context)
        : FewRows(oneInBF16: rows, columns: columns, isPaired: isPaired, context: context)
    if let one {
      self = one
    } else if isInNF4, batch > 8,
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
  private init?(oneInNF4 rows: [Int], columns: Int, isPaired: Bool, context: CUDAContext) {
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
  private init?(oneInBF16 rows: [Int], columns: Int, isPaired: Bool, context: CUDAContext) {
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
  private init?(inNF4 rows: [Int], columns: Int, batch: Int, isPaired: Bool, context: CUDAContext) {
    let halves = batch > 8 ? 2 : 1
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
    let large = halves > 1 ? nil : best(warps: [10, 9, 8], itemBytes: 4096, rest: table)
    // Where memory is little codes lie in the table, and what lies there else behind it.
    guard let best = large ?? best(warps: [4], itemBytes: 0, rest: table + 96 * 128) else { return nil }
    (slice, slices, sharedBytes) = (0, best.slices, best.bytes)
    kernel = "rows_nf4_\(halves * 8)\(large == nil ? "_small" : "")"
    isAdapted = true
    grid = CUDADevice.Grid(x: best.blocks, y: best.slices * passes, threadsX: best.warps * 32)
  }

  /// 9 to 64 rows with matrices in NF4 (`rows_nf4_many.cu`); nil where a block's memory has no room for it.
  private init?(manyInNF4 rows: [Int], columns: Int, batch: Int, isPaired: Bool, context: CUDAContext) {
    let eights = batch > 48 ? 8 : batch > 32 ? 6 : batch > 16 ? 4 : 2
    kernel = "rows_nf4_many_\(eights * 8)"
    isAdapted = true
    let units = (columns + 255) / 256
    let elements = batch * rows.reduce(0, +)
    var best: (tiles: Int, slices: Int, warps: Int, bytes: Int, cost: Double)?
    for warps in eights > 4 ? [8] : [10, 9, 8] {
      let tileRows = warps * (isPaired ? 16 : 32)
      let tiles = (isPaired ? [rows[0]] : rows).map { ($0 + tileRows - 1) / tileRows }.reduce(0, +)
      let nested = tileRows * (columns / 64) / 256 + 2
      let bytes = (64 << 10) + warps * 2 * 4096 + 2 * 8 * (8 * eights + 1) * 64 + nested * 4 * (isPaired ? 2 : 1)
      guard bytes <= context.sharedMemory else { continue }
      for slices in 1...min(units, 16) {
        // In microseconds, about: blocks one after the other on a multiprocessor take a unit of 256 columns in so much time, and a
        // little more to begin and end; the slices' sums are written and read again.
        let turns = (tiles * slices + context.multiprocessors - 1) / context.multiprocessors
        let unit = 0.05 * Double(warps * (eights + 4))
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
  private init(inBF16 rows: [Int], columns: Int, batch: Int, isPaired: Bool, context: CUDAContext) {
    let halves = batch > 8 ? 2 : 1
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
