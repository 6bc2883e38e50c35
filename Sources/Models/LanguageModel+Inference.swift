import Tensors

extension LanguageModel {
  /// Room for the keys and values of `capacity` tokens.
  public func makeCache(capacity: Int) throws -> KeyValueCache {
    try KeyValueCache(shape, capacity: capacity, pool: cachePages, on: device)
  }

  /// Reads `tokens` after those in `cache`, and adds them to it.
  /// - Parameter plannedLength: the length the sequence may reach, which decides a rotary base that grows with it.
  /// - Returns: the logits after the last token, `[vocabulary]`.
  public func extend(_ cache: KeyValueCache, with tokens: [Int32], plannedLength: Int? = nil) throws -> [Float] {
    guard let last = try read(cache, tokens, plannedLength: plannedLength) else { return [] }
    let room = try inferenceRoom(rows: 1)
    try device.logits(last, head, into: room.logits)
    return try device.floats(room.logits)
  }

  /// The same, but the last token's normed row, compute `[1, hidden]`.
  func read(_ cache: KeyValueCache, _ tokens: [Int32], plannedLength: Int?) throws -> Tensor? {
    guard !tokens.isEmpty else { throw ModelError("no tokens were given to read") }
    guard cache.length + tokens.count <= cache.capacity else {
      throw ModelError("\(cache.length + tokens.count) tokens do not fit a cache for \(cache.capacity)")
    }
    let deciding = rotary.embedding.decidingLength(cache.length + tokens.count, planned: plannedLength)
    let regime = rotary.embedding.regime(length: deciding)
    var tokens = tokens
    if cache.length > 0, cache.rotaryRegime != regime {
      // Keys turned by other angles: the sequence crossed a length, and is read again.
      tokens = cache.tokens + tokens
      cache.truncate(to: 0)
    }
    cache.rotaryRegime = regime
    // A long prompt goes through in pieces, so that its activations stay small.
    var last = Tensor?.none
    for start in stride(from: 0, to: tokens.count, by: promptChunk) {
      last = try read(
        Array(tokens[start..<min(start + promptChunk, tokens.count)]), cache, decidingLength: deciding)
    }
    return last
  }

  /// Logits at every position of `tokens`, row after row, `[count, vocabulary]`: for comparison with other programs.
  public func logits(_ tokens: [Int32]) throws -> [Float] {
    let cache = try makeCache(capacity: tokens.count)
    var result: [Float] = []
    let room = try inferenceRoom(rows: 1)
    for start in stride(from: 0, to: tokens.count, by: promptChunk) {
      let chunk = Array(tokens[start..<min(start + promptChunk, tokens.count)])
      _ = try read(chunk, cache, decidingLength: tokens.count)
      let normed = try inferenceRoom(rows: chunk.count).normed
      for row in chunk.indices {
        try device.logits(normed.rows(row..<row + 1), head, into: room.logits.prefix(1))
        result += try device.floats(room.logits)
      }
    }
    return result
  }

  /// A device with memory of its own opens quantized weights once for each piece.
  private var promptChunk: Int { device.pagedDecoding == nil ? 512 : 1024 }

  /// One piece of a sequence through all layers; returns the last token's normed row, compute `[1, hidden]`.
  private func read(_ tokens: [Int32], _ cache: KeyValueCache, decidingLength: Int) throws -> Tensor {
    let count = tokens.count
    let alignment = device.rowAlignment
    let rows = count == 1 ? 1 : (count + alignment - 1) / alignment * alignment
    let room = try inferenceRoom(rows: rows)
    let begin = cache.length
    let positions = (0..<rows).map { Int32(begin + min($0, count - 1)) }
    let context = try context(
      positions: positions,
      spans: [AttentionSpan(queries: 0..<count, keys: 0..<begin + count)],
      longest: decidingLength, dropout: nil)
    try embed(tokens + [Int32](repeating: 0, count: rows - count), into: room.x)
    if rows > count { try device.zero(room.memory.attended.rows(count..<rows)) }
    try cache.grow(by: count)
    for (layer, block) in blocks.enumerated() {
      var memory = room.memory
      switch cache.storage {
      case .whole(let keys, let values):
        memory.k = keys[layer].rows(begin..<begin + rows)
        memory.v = values[layer].rows(begin..<begin + rows)
        memory.cachedKeys = keys[layer].prefix(begin + count)
        memory.cachedValues = values[layer].prefix(begin + count)
      case .paged(let pages, let paged):
        memory.paged = PagedLayer(
          device: paged, layer: CacheLayer(layer, width: shape.keyValueWidth), pages: pages.list, begin: begin,
          count: count)
      }
      try block.forward(
        room.x, memory, normed: room.normed, activation: room.activation, context, on: device)
    }
    cache.append(tokens)
    try device.rmsNorm(
      room.x, finalNorm, epsilon: context.epsilon, into: room.normed, rstd: room.memory.mlpRstd, saved: nil)
    return room.normed.rows(count - 1..<count)
  }

  /// Activations of one piece of a prompt, kept between calls.
  struct InferenceRoom {
    let capacity: Int
    let x, normed, activation, logits: Tensor
    let memory: BlockMemory

    /// The same room as seen by a batch of `rows` rows.
    func prefix(_ rows: Int) -> InferenceRoom {
      InferenceRoom(
        capacity: capacity, x: x.prefix(rows), normed: normed.prefix(rows), activation: activation.prefix(rows),
        logits: logits.prefix(min(rows, logits.rows)),
        memory: BlockMemory(
          x: nil, xMiddle: nil, attentionRstd: memory.attentionRstd.columns(0..<rows),
          mlpRstd: memory.mlpRstd.columns(0..<rows), q: memory.q.prefix(rows), k: memory.k.prefix(rows),
          v: memory.v.prefix(rows),
          attended: memory.attended.prefix(rows), logSumExp: nil, gate: memory.gate.prefix(rows),
          up: memory.up.prefix(rows), lowRank: memory.lowRank.mapValues { $0.prefix(rows) },
          unscaled: memory.unscaled.mapValues { $0.prefix(rows) }))
    }
  }

  func inferenceRoom(rows: Int) throws -> InferenceRoom {
    if let inference, inference.capacity >= rows { return inference.prefix(rows) }
    let capacity = rows == 1 ? 1 : promptChunk
    let compute = device.computeType
    var plan = ArenaPlan()
    func slot(_ columns: Int, _ dtype: DType) -> ArenaPlan.Slot {
      plan.reserve(rows: capacity, columns: columns, dtype)
    }
    let rank = adapter?.configuration.rank ?? 0
    let modules = adapter?.configuration.targetModules ?? []
    // What products read has room behind it, where the device multiplies adapters in one with their matrices.
    func operand(_ columns: Int, readBy groups: [TargetModule]...) -> ArenaPlan.Slot {
      let tails = groups.compactMap { device.operandTail(ranks: $0.map { modules.contains($0) ? rank : 0 }) }
      return plan.reserve(rows: capacity, columns: columns, compute, tail: tails.max() ?? 0)
    }
    let x = slot(shape.hidden, device.residualType)
    let normed = operand(shape.hidden, readBy: [.query, .key, .value], [.gate, .up])
    let activation = operand(shape.intermediate, readBy: [.down])
    let q = slot(shape.queryWidth, compute)
    let k = slot(shape.keyValueWidth, compute)
    let v = slot(shape.keyValueWidth, compute)
    let attended = operand(shape.queryWidth, readBy: [.output])
    let gate = slot(shape.intermediate, compute)
    let up = slot(shape.intermediate, compute)
    let rstd = plan.reserve(rows: 2, columns: capacity, .float32)
    let logits = plan.reserve(rows: min(capacity, Self.mostSequences), columns: shape.vocabulary, .float32)
    let lowRank = modules.map { ($0, slot(rank, compute)) }
    let scaled = adapter?.configuration.useDoRA == true ? modules : []
    let unscaled = scaled.map { ($0, slot(shape.outputs(of: $0), compute)) }
    let arena = try Arena(plan, on: device)
    let room = InferenceRoom(
      capacity: capacity, x: arena[x], normed: arena[normed], activation: arena[activation], logits: arena[logits],
      memory: BlockMemory(
        x: nil, xMiddle: nil, attentionRstd: arena[rstd].rows(0..<1), mlpRstd: arena[rstd].rows(1..<2), q: arena[q],
        k: arena[k], v: arena[v], attended: arena[attended], logSumExp: nil, gate: arena[gate], up: arena[up],
        lowRank: [TargetModule: Tensor](uniqueKeysWithValues: lowRank.map { ($0.0, arena[$0.1]) }),
        unscaled: [TargetModule: Tensor](uniqueKeysWithValues: unscaled.map { ($0.0, arena[$0.1]) })))
    inference = room
    inferenceRooms += 1
    return room.prefix(rows)
  }
}
