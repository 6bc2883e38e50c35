// The documentation of what this implements stands in `PagedDecoding`.
// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

import CUDADriver
import Tensors

extension CUDADevice: PagedDecoding {
  public var pagedDecoding: (any PagedDecoding)? { self }
  public var isTimed: Bool { timer != nil }

  public func embed(_ tokens: Tensor, _ table: any FrozenMatrix, into x: Tensor) throws {
    let rows = try weights(of: table)
    try launch(
      "embed", .rows(tokens.columns, by: (x.columns + 7) / 8),
      [
        tokens.columns.word, x.columns.word, rows.word, rows.rowStride.word, tokens.word, x.word, x.rowStride.word,
        isAligned(rows, x).word,
      ])
  }

  public func linear(
    normOf x: Tensor, _ gamma: Tensor, epsilon: Float, _ projections: [Projection], into outputs: [Tensor],
    lowRank: [Tensor?], activation: Tensor?
  ) throws -> Bool {
    guard x.rows == 1, x.dtype == .float32, isAligned(gamma) else { return false }
    try timer?.begin(.matrixProducts)
    let isDone = try linearOfFewRows(
      x, projections, outputs, lowRank, activation: activation, norm: Norm(gamma: gamma, epsilon: epsilon))
    try timer?.end()
    return isDone
  }

  public func store(_ k: Tensor, _ v: Tensor, from begin: Int, in layer: CacheLayer, pages: Tensor) throws {
    try launch(
      "cache_store", .rows(k.rows, by: (layer.width + 7) / 8),
      [
        k.rows.word, begin.word, layer.width.word, k.word, k.rowStride.word, v.word, v.rowStride.word, pages.word,
        layer.keys.word, layer.values.word, (isAligned(k, v) && layer.width % 8 == 0).word,
      ])
  }

  public func attention(
    _ q: Tensor, after begin: Int, in layer: CacheLayer, pages: Tensor, _ shape: AttentionShape, into output: Tensor
  ) throws {
    let spans = [AttentionSpan(queries: 0..<q.rows, keys: 0..<begin + q.rows)]
    let cache = Tensor(pages.buffer, rows: 1, columns: layer.width, dtype: .bfloat16)
    try timer?.begin(.attention)
    try attend(
      q, cache, cache, shape, spans, into: output, logSumExp: nil,
      pages: [pages.word, layer.keys.word, layer.values.word])
    try timer?.end()
  }

  public func attentionSplits(length: Int, rows: Int, _ shape: AttentionShape) -> Int {
    let pages = (min(length, shape.window ?? length) + CachePage.tokens - 1) / CachePage.tokens + 1
    // Few pages are sooner read than merged.
    if pages <= 4 { return 1 }
    if rows == 1 {
      let (one, two) = (splitsOfOneRow(shape, heads: 1), splitsOfOneRow(shape, heads: 2))
      return pages <= 8 ? min(2, one) : pages <= 8 * one ? one : max(one, two)
    }
    let blocks = rows * shape.keyValueHeads * headBlocks(shape, most: 4)
    // A few blocks for every multiprocessor, each with two pages where there are enough.
    let wanted = max(1, context.multiprocessors * 2 / max(1, blocks))
    var splits = 1
    while splits < 64, splits < wanted, splits * 2 <= pages { splits *= 2 }
    return splits
  }

  /// How many parts one row's keys have at most where a block takes up to `heads` query heads and no multiprocessor gets two
  /// blocks.
  private func splitsOfOneRow(_ shape: AttentionShape, heads: Int) -> Int {
    min(64, max(1, context.multiprocessors / (shape.keyValueHeads * headBlocks(shape, most: heads))))
  }

  /// Blocks of a key head where each takes up to `most` query heads.
  private func headBlocks(_ shape: AttentionShape, most: Int) -> Int {
    (shape.heads / shape.keyValueHeads + most - 1) / most
  }

  public func attention(
    _ token: TokenProjections, _ rows: DecodingRows, in layer: CacheLayer, _ shape: AttentionShape, splits: Int,
    into output: Tensor
  ) throws {
    let width = try tileWidth(shape)
    let count = output.rows
    // One row's few keys want many blocks, many rows' keys want to be read once.
    let most = count > 1 ? 4 : splits <= splitsOfOneRow(shape, heads: 1) ? 1 : 2
    let group = shape.heads / shape.keyValueHeads
    let heads = group >= 3 ? most : min(most, group)
    let blocks = headBlocks(shape, most: heads)
    let partial = try scratch(
      .attentionSplits, byteCount: max(1, count * shape.heads * splits * (width + 2) * 4))
    let done = try splitsDone(count: count * shape.keyValueHeads * blocks)
    try timer?.begin(.attention)
    // One row's blocks begin while the projections are computed where every multiprocessor has one of theirs and gets one of
    // these, of those with nothing to do too: a few would lead the kernels behind them to multiprocessors that have their share.
    let parts = shape.keyValueHeads * blocks * splits
    // Four or five times 32 keys and values.
    let ring = (heads > 2 ? 4 : 5) * 32 * width * 4
    let isUniform =
      count == 1 && heads <= 2 && overlapsLaunches && parts <= context.multiprocessors
      && blocksBefore == context.multiprocessors
    let uniform = isUniform ? context.overHalf : nil
    try launch(
      "attention_decode_\(width)_\(heads)",
      Grid(x: uniform == nil ? parts : context.multiprocessors, y: count, threadsX: 256),
      sharedBytes: max(uniform ?? 0, ring),
      structure: [
        token.q.word, token.k.word, token.v.word, token.q.rowStride.word, token.k.rowStride.word,
        token.v.rowStride.word, output.word, output.rowStride.word, token.biasQ.word, token.biasK.word,
        token.biasV.word, token.gammaQ.word, token.gammaK.word, token.cosines.word, token.sines.word,
        (token.cosines?.columns ?? 0).word, rows.positions.word, rows.pageLists.word, layer.keys.word,
        layer.values.word, layer.width.word, shape.heads.word, shape.keyValueHeads.word, shape.headDimension.word,
        (shape.window ?? 0).word, splits.word, UInt64(partial.address), UInt64(done.address),
        Double(shape.scale).bitPattern, Double(token.epsilon).bitPattern, UInt64(uniform == nil ? 0 : 1),
      ],
      overlaps: uniform != nil)
    try timer?.end()
  }

  /// Counters of blocks that have come, at zero: blocks leave them so.
  func splitsDone(count: Int) throws -> DeviceBuffer {
    let before = moves
    let done = try scratch(.splitsDone, byteCount: max(count * 4, 1 << 16))
    if moves != before { try zero(Tensor(done, rows: 1, columns: done.byteCount, dtype: .uint8)) }
    return done
  }

  public func sample(_ logits: Tensor, draws: Tensor, seen: Tensor, into tokens: Tensor) throws {
    var threads = 32
    while threads < 512, threads * 16 < logits.columns { threads *= 2 }
    let parts = min(64, max(1, (logits.columns + 2047) / 2048))
    let best = try scratch(.bestTokens, byteCount: logits.rows * parts * 8)
    let words = [
      logits.columns.word, logits.word, logits.rowStride.word, draws.word, seen.word, (seen.rowStride / 4).word,
      tokens.word, UInt64(best.address), parts.word,
    ]
    try launch("sample_best", Grid(x: parts, y: logits.rows, threadsX: 256), structure: words)
    try launch("sample", Grid(x: logits.rows, threadsX: threads), structure: words)
  }

  // MARK: Recording

  public func record(_ work: () throws -> Void) throws -> any RecordedWork {
    try context.enter()
    // 2: what other threads do meanwhile concerns nobody.
    try context.check(context.driver.pointee.beginCapture(context.stream, 2), "recording a step")
    // What lies in the place for opened matrices now does not lie there when the recording runs, and the other way round.
    openGroup = nil
    let result = Result(catching: work)
    openGroup = nil
    var graph: UnsafeMutableRawPointer?
    let code = context.driver.pointee.endCapture(context.stream, &graph)
    defer { if let graph { _ = context.driver.pointee.destroyGraph(graph) } }
    try result.get()
    try context.check(code, "recording a step")
    guard let graph else { throw DeviceError("the driver recorded no step") }
    var executable: UnsafeMutableRawPointer?
    try context.check(context.driver.pointee.instantiateGraph(&executable, graph, 0), "making a step of a recording")
    guard let executable else { throw DeviceError("the driver made no step of a recording") }
    return CUDARecording(executable, self)
  }

  public func makeExchange(byteCount: Int) throws -> any HostExchange {
    try CUDAExchange(
      Tensor(try allocate(byteCount: byteCount), rows: 1, columns: byteCount, dtype: .uint8), context)
  }
}

/// A graph of the driver.
private final class CUDARecording: RecordedWork {
  private let executable: UnsafeMutableRawPointer
  private let context: CUDAContext
  private weak var device: CUDADevice?

  init(_ executable: UnsafeMutableRawPointer, _ device: CUDADevice) {
    self.executable = executable
    self.device = device
    context = device.context
  }

  deinit {
    context.enterForRelease()
    _ = context.driver.pointee.synchronize(context.stream)
    _ = context.driver.pointee.destroyExecutable(executable)
  }

  func run() throws {
    try context.enter()
    device?.openGroup = nil
    try context.check(context.driver.pointee.launchGraph(executable, context.stream), "running a recorded step")
  }
}

private final class CUDAExchange: HostExchange {
  let host: UnsafeMutableRawPointer
  let tensor: Tensor
  private let context: CUDAContext

  init(_ tensor: Tensor, _ context: CUDAContext) throws {
    var address: UnsafeMutableRawPointer?
    try context.check(
      context.driver.pointee.allocateHost(&address, tensor.byteCount, 0), "pinning \(tensor.byteCount) bytes of memory")
    guard let address else { throw DeviceError("the driver pinned no memory") }
    host = address
    self.tensor = tensor
    self.context = context
  }

  deinit {
    context.enterForRelease()
    _ = context.driver.pointee.synchronize(context.stream)
    _ = context.driver.pointee.releaseHost(host)
  }

  func send(_ range: Range<Int>) throws {
    try context.enter()
    try context.check(
      context.driver.pointee.copyIn(
        UInt64(tensor.address) + UInt64(range.lowerBound), host + range.lowerBound, range.count, context.stream),
      "copying to the GPU")
  }

  func receive(_ range: Range<Int>) throws {
    try context.enter()
    try context.check(
      context.driver.pointee.copyOut(
        host + range.lowerBound, UInt64(tensor.address) + UInt64(range.lowerBound), range.count, context.stream),
      "copying from the GPU")
  }
}
