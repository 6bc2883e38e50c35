import Tensors

extension LanguageModel {
  /// The most sequences that one step goes on with.
  public static var mostSequences: Int { 64 }

  /// Reads `tokens` after those in `cache` and chooses the token that follows.
  /// - Parameters:
  ///   - seen: all tokens of the sequence, for what counts repetition.
  ///   - plannedLength: the length the sequence may reach, which decides a rotary base that grows with it.
  public func begin(
    _ cache: KeyValueCache, with tokens: [Int32], _ options: SamplingOptions, seen: [Int32], plannedLength: Int? = nil
  ) throws -> DecodingSequence {
    let sequence = DecodingSequence(cache, options, seen: seen, plannedLength: plannedLength)
    if case .paged(_, let paged) = cache.storage, options.repetitionPenalty != 1 {
      sequence.slot = try decodingRoom(paged, notesTokens: true).slots.take(seen)
    }
    try choose(sequence, after: read(cache, tokens, plannedLength: plannedLength))
    return sequence
  }

  /// Reads each sequence's last token and chooses the next: `last` of each is the new one.
  ///
  /// All sequences, at most ``mostSequences``, are of this model; each token goes through the weights beside the others'.
  public func step(_ sequences: [DecodingSequence]) throws {
    guard sequences.count <= Self.mostSequences else {
      throw ModelError("\(sequences.count) sequences do not fit one step: \(Self.mostSequences) do")
    }
    // Sequences whose keys turn by one table go together.
    var groups: [Int: [DecodingSequence]] = [:]
    for sequence in sequences {
      let cache = sequence.cache
      guard let last = sequence.last else { throw ModelError("a sequence that ended was asked to go on") }
      guard last >= 0, Int(last) < shape.vocabulary else {
        throw ModelError("token \(last) lies outside the model's vocabulary of \(shape.vocabulary)")
      }
      guard cache.length < cache.capacity else {
        throw ModelError("\(cache.length + 1) tokens do not fit a cache for \(cache.capacity)")
      }
      let regime = rotary.embedding.regime(length: decidingLength(of: sequence))
      if cache.rotaryRegime == regime {
        groups[regime, default: []].append(sequence)
      } else {
        try choose(sequence, after: read(cache, [last], plannedLength: sequence.plannedLength))
      }
    }
    for group in groups.values {
      for sequence in group { try sequence.cache.grow(by: 1) }
      if let paged = device.pagedDecoding { try step(group, paged) } else { try stepOnHost(group) }
    }
  }

  private func decidingLength(of sequence: DecodingSequence) -> Int {
    rotary.embedding.decidingLength(sequence.cache.length + 1, planned: sequence.plannedLength)
  }

  /// Chooses a sequence's next token from the normed row of its last.
  private func choose(_ sequence: DecodingSequence, after normed: Tensor?) throws {
    guard let normed else { throw ModelError("no tokens were given to read") }
    let logits = try inferenceRoom(rows: 1).logits
    try device.logits(normed, head, into: logits)
    guard case .paged(_, let paged) = sequence.cache.storage else {
      sequence.last = sequence.sampler.next(try device.floats(logits))
      return
    }
    let room = try decodingRoom(paged)
    room.exchange[draw: 0] = sequence.draw()
    try room.exchange.send()
    try paged.sample(logits, draws: room.exchange.draws(1), seen: room.slots.bits, into: room.exchange.chosen(1))
    try room.exchange.receive()
    try device.synchronize()
    sequence.last = room.exchange[chosen: 0]
  }

  // MARK: Where the host has everything

  private func stepOnHost(_ sequences: [DecodingSequence]) throws {
    let count = sequences.count
    let room = try inferenceRoom(rows: count)
    let lengths = sequences.map(\.cache.length)
    let context = try context(
      positions: lengths.map { Int32($0) }, spans: [], longest: sequences.map(decidingLength).max() ?? 1, dropout: nil)
    let tokens = sequences.compactMap(\.last)
    try embed(tokens, into: room.x)
    for (layer, block) in blocks.enumerated() {
      try block.decode(
        room.x, room.memory, normed: room.normed, activation: room.activation, context, on: device
      ) {
        try block.finishHeads(room.memory, context, on: device)
        let shape = block.attention(context)
        for (row, sequence) in sequences.enumerated() {
          guard case .whole(let keys, let values) = sequence.cache.storage else { continue }
          let end = lengths[row] + 1
          try device.copy(room.memory.k.rows(row..<row + 1), to: keys[layer].rows(end - 1..<end))
          try device.copy(room.memory.v.rows(row..<row + 1), to: values[layer].rows(end - 1..<end))
          try device.attention(
            room.memory.q.rows(row..<row + 1), keys[layer].prefix(end), values[layer].prefix(end), shape,
            [AttentionSpan(queries: 0..<1, keys: 0..<end)], into: room.memory.attended.rows(row..<row + 1),
            logSumExp: nil)
        }
      }
    }
    try device.rmsNorm(
      room.x, finalNorm, epsilon: context.epsilon, into: room.normed, rstd: room.memory.mlpRstd, saved: nil)
    try device.logits(room.normed, head, into: room.logits)
    for (row, sequence) in sequences.enumerated() {
      sequence.cache.append([tokens[row]])
      sequence.last = sequence.sampler.next(try device.floats(room.logits.rows(row..<row + 1)))
    }
  }

  // MARK: Where the device has everything

  /// What a recorded step is good for.
  struct StepKey: Hashable {
    var rows: Int
    var splits: Int
    /// Whatever may have moved or been exchanged since.
    var moves: Int
    var room: Int
    var cosines: UInt
    var seen: UInt
    var adapter: UInt
  }

  /// Memory and recordings of decoding.
  final class DecodingRoom {
    let exchange: StepExchange
    var slots: DecodingSlots
    var recordings: [StepKey: any RecordedWork] = [:]
    /// Steps that ran once, after which nothing is allocated any more.
    var tried: Set<StepKey> = []

    init(_ exchange: StepExchange, _ slots: DecodingSlots) {
      self.exchange = exchange
      self.slots = slots
    }
  }

  private func decodingRoom(_ paged: any PagedDecoding, notesTokens: Bool = false) throws -> DecodingRoom {
    let room =
      try decoding
      ?? DecodingRoom(
        StepExchange(paged), DecodingSlots(count: 0, vocabulary: shape.vocabulary, on: device))
    decoding = room
    if notesTokens, room.slots.bits.columns == 4 {
      room.slots = try DecodingSlots(count: Self.mostSequences, vocabulary: shape.vocabulary, on: device)
    }
    return room
  }

  private func step(_ sequences: [DecodingSequence], _ paged: any PagedDecoding) throws {
    let room = try decodingRoom(paged)
    let exchange = room.exchange
    // Few shapes, so that few steps are recorded.
    let rows = [1, 2, 4, 8, 16, 32, 48].first { $0 >= sequences.count } ?? Self.mostSequences
    let longest = sequences.map { $0.cache.length + 1 }.max() ?? 1
    let deciding = sequences.map(decidingLength).max() ?? 1
    let context = try context(
      positions: [], spans: [], longest: deciding, dropout: nil,
      reaching: sequences.compactMap(\.plannedLength).max() ?? deciding)
    let place = try inferenceRoom(rows: rows)
    for row in 0..<rows {
      let sequence = row < sequences.count ? sequences[row] : nil
      exchange[draw: row] =
        sequence?.draw()
        ?? TokenDraw(sharpness: 0, topP: 1, minP: 0, repetitionPenalty: 1, topK: 0, slot: -1, point: 0)
      exchange[token: row] = sequence?.last ?? 0
      exchange[position: row] = sequence.map { Int32(clamping: $0.cache.length) } ?? -1
      if case .paged(let pages, _)? = sequence?.cache.storage { exchange[list: row] = UInt64(pages.list.address) }
    }
    let splits = paged.attentionSplits(length: longest, rows: rows, attentionShape)
    let tokens = sequences.compactMap(\.last)
    let embedsOnDevice = embedsOnDevice
    if !embedsOnDevice { try embed(tokens + [Int32](repeating: 0, count: rows - tokens.count), into: place.x) }
    func work() throws {
      try exchange.send()
      if embedsOnDevice { try embed(exchange.tokens(rows), with: paged, into: place.x) }
      let where_ = DecodingRows(positions: exchange.positions(rows), pageLists: exchange.lists(rows))
      for (layer, block) in blocks.enumerated() {
        try block.decode(
          place.x, place.memory, normed: place.normed, activation: place.activation, context, on: device
        ) {
          try paged.attention(
            block.projections(place.memory, context), where_, in: CacheLayer(layer, width: shape.keyValueWidth),
            block.attention(context), splits: splits, into: place.memory.attended)
        }
      }
      try device.rmsNorm(
        place.x, finalNorm, epsilon: context.epsilon, into: place.normed, rstd: place.memory.mlpRstd, saved: nil)
      try device.logits(place.normed, head, into: place.logits)
      try paged.sample(
        place.logits, draws: exchange.draws(rows), seen: room.slots.bits, into: exchange.chosen(rows))
      try exchange.receive()
    }
    let key = StepKey(
      rows: rows, splits: splits, moves: paged.moves, room: inferenceRooms, cosines: context.cosines.address,
      seen: room.slots.bits.address, adapter: adapterMark)
    if paged.isTimed || !paged.recordsSteps {
      try work()
    } else if let recording = room.recordings[key] {
      try recording.run()
    } else if room.tried.contains(key) {
      // Recordings of memory that has moved are of no use to anybody.
      room.recordings = room.recordings.filter { $0.key.moves == key.moves && $0.key.room == key.room }
      let recording = try paged.record(work)
      room.recordings[key] = recording
      try recording.run()
    } else {
      try work()
      room.tried.insert(key)
    }
    try device.synchronize()
    for (row, sequence) in sequences.enumerated() {
      sequence.cache.append([tokens[row]])
      sequence.last = exchange[chosen: row]
    }
  }

  private var attentionShape: AttentionShape {
    AttentionShape(heads: shape.heads, keyValueHeads: shape.keyValueHeads, headDimension: shape.headDimension)
  }

  /// Tells adapters apart: they may be taken away and put back.
  private var adapterMark: UInt {
    guard adapter != nil else { return 0 }
    for block in blocks {
      for module in TargetModule.allCases { if let pair = block[module].lowRank { return pair.a.address } }
    }
    return 0
  }
}

/// What goes to the device before a step and comes back after it.
final class StepExchange {
  private let exchange: any HostExchange
  private static let rows = LanguageModel.mostSequences
  // Draws of 32 bytes, lists of 8, tokens, positions and chosen tokens of 4.
  private static let (listsAt, tokensAt, positionsAt, chosenAt, end) = (
    rows * 32, rows * 40, rows * 44, rows * 48, rows * 52
  )

  init(_ paged: any PagedDecoding) throws {
    assert(MemoryLayout<TokenDraw>.stride == 32)
    exchange = try paged.makeExchange(byteCount: Self.end)
    exchange.host.initializeMemory(as: UInt8.self, repeating: 0, count: Self.end)
  }

  func send() throws { try exchange.send(0..<Self.chosenAt) }
  func receive() throws { try exchange.receive(Self.chosenAt..<Self.end) }

  subscript(draw row: Int) -> TokenDraw {
    get { exchange.host.load(fromByteOffset: row * 32, as: TokenDraw.self) }
    set { exchange.host.storeBytes(of: newValue, toByteOffset: row * 32, as: TokenDraw.self) }
  }
  subscript(list row: Int) -> UInt64 {
    get { exchange.host.load(fromByteOffset: Self.listsAt + row * 8, as: UInt64.self) }
    set { exchange.host.storeBytes(of: newValue, toByteOffset: Self.listsAt + row * 8, as: UInt64.self) }
  }
  subscript(token row: Int) -> Int32 {
    get { exchange.host.load(fromByteOffset: Self.tokensAt + row * 4, as: Int32.self) }
    set { exchange.host.storeBytes(of: newValue, toByteOffset: Self.tokensAt + row * 4, as: Int32.self) }
  }
  subscript(position row: Int) -> Int32 {
    get { exchange.host.load(fromByteOffset: Self.positionsAt + row * 4, as: Int32.self) }
    set { exchange.host.storeBytes(of: newValue, toByteOffset: Self.positionsAt + row * 4, as: Int32.self) }
  }
  /// What the device chose; nil where no logit was a number.
  subscript(chosen row: Int) -> Int32? {
    let token = exchange.host.load(fromByteOffset: Self.chosenAt + row * 4, as: Int32.self)
    return token < 0 ? nil : token
  }

  func draws(_ rows: Int) -> Tensor { exchange.tensor.columns(0..<rows * 32) }
  func lists(_ rows: Int) -> Tensor { exchange.tensor.columns(Self.listsAt..<Self.listsAt + rows * 8) }
  func tokens(_ rows: Int) -> Tensor { integers(Self.tokensAt, rows) }
  func positions(_ rows: Int) -> Tensor { integers(Self.positionsAt, rows) }
  func chosen(_ rows: Int) -> Tensor { integers(Self.chosenAt, rows) }

  private func integers(_ at: Int, _ rows: Int) -> Tensor {
    Tensor(exchange.tensor.buffer, byteOffset: exchange.tensor.byteOffset + at, rows: 1, columns: rows, dtype: .int32)
  }
}
