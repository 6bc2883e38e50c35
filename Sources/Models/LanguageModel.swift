import ModelFiles
import Tensors

/// A model of the Llama family on a device: frozen weights, and an adapter beside them when one is attached.
///
/// Forward and backward passes are written once, here, against ``Device``'s operations. Use a model from one thread at a
/// time.
public final class LanguageModel {
  /// What the checkpoint says of the model.
  public let configuration: ModelConfiguration
  /// Where the model lives.
  public let device: any Device
  /// The adapter in use.
  public private(set) var adapter: Adapter?

  let shape: ModelShape
  var blocks: [Block]
  var finalNorm: Tensor
  /// All weights as parameters, when they learn.
  private(set) var full: FullParameters?
  let head: any FrozenMatrix
  let rotary: RotaryTables
  package let checkpoint: Checkpoint?
  /// How the matrices are kept.
  public let storage: WeightStorage
  private var embedding: TokenEmbedding
  let headName: String
  private var training: TrainingPass?
  var inference: InferenceRoom?
  /// How many rooms were made: a recorded step knows one.
  var inferenceRooms = 0
  var decoding: DecodingRoom?
  private(set) lazy var cachePages = CachePagePool(shape, on: device)

  /// Loads `checkpoint` onto `device`.
  ///
  /// `directions`: `.forward` to generate and evaluate; both to train.
  public convenience init(
    _ checkpoint: Checkpoint, on device: any Device, directions: ProductDirections = .forward,
    storage: WeightStorage = .operands
  ) throws {
    try self.init(checkpoint.configuration, checkpoint, on: device, directions: directions, storage: storage)
  }

  /// A model of random weights, which knows nothing and takes as long as one that does.
  package convenience init(
    random configuration: ModelConfiguration, on device: any Device, storage: WeightStorage = .operands
  ) throws {
    try self.init(configuration, nil, on: device, directions: [.forward, .backward], storage: storage)
  }

  private init(
    _ configuration: ModelConfiguration, _ checkpoint: Checkpoint?, on device: any Device,
    directions: ProductDirections, storage: WeightStorage
  ) throws {
    let shape = ModelShape(configuration)
    self.checkpoint = checkpoint
    self.configuration = configuration
    self.device = device
    self.shape = shape
    self.storage = storage
    var loader = WeightLoader(checkpoint: checkpoint, device: device, directions: directions, storage: storage)
    if !storage.streamedLayers.isEmpty {
      let streamed = configuration.layerShapes(storage, directions: directions).filter { $0.segment != nil }
      loader.stream = try device.makeMatrixStream(streamed, places: storage.streamPlaces)
    }
    let embeddingName = "model.embed_tokens.weight"
    headName = configuration.tiesEmbeddings ? embeddingName : "lm_head.weight"
    finalNorm = try loader.vector("model.norm.weight", count: shape.hidden)
    head = try loader.matrix(headName, outputs: shape.vocabulary, inputs: shape.hidden)
    let isOnHost = !device.embedsTokens || (storage.embeddingIsOnHost && headName != embeddingName)
    embedding =
      if isOnHost, checkpoint != nil {
        .onHost(try loader.stored(embeddingName, rows: shape.vocabulary, columns: shape.hidden))
      } else if isOnHost, device.embedsTokens {
        .table(try Self.drawnEmbedding(embeddingName, shape, on: device))
      } else if isOnHost {
        .drawn(width: shape.hidden)
      } else if headName == embeddingName {
        .onDevice(head)
      } else {
        .onDevice(
          try WeightLoader(checkpoint: checkpoint, device: device, directions: [])
            .matrix(embeddingName, outputs: shape.vocabulary, inputs: shape.hidden))
      }
    let blockLoader = loader
    blocks = try (0..<shape.layerCount).map { try Block(layer: $0, configuration, from: blockLoader) }
    rotary = RotaryTables(RotaryEmbedding(configuration), on: device)
  }

  /// The table that the device would draw, in the host's memory: a run learns the same wherever it lies.
  private static func drawnEmbedding(_ name: String, _ shape: ModelShape, on device: any Device) throws -> [UInt16] {
    let table = try WeightLoader(checkpoint: nil, device: device, directions: []).matrix(
      name, outputs: shape.vocabulary, inputs: shape.hidden)
    let atOnce = min(4096, shape.vocabulary)
    let rows = Tensor(
      try device.allocate(byteCount: atOnce * shape.hidden * 4), rows: atOnce, columns: shape.hidden,
      dtype: device.residualType)
    var elements: [UInt16] = []
    elements.reserveCapacity(shape.vocabulary * shape.hidden)
    for first in stride(from: 0, to: shape.vocabulary, by: atOnce) {
      let count = min(atOnce, shape.vocabulary - first)
      try device.embed((first..<first + count).map { Int32($0) }, table, into: rows.prefix(count))
      // bf16 in fp32: the other bits are zero.
      elements += try device.floats(rows.prefix(count)).map { UInt16(truncatingIfNeeded: $0.bitPattern >> 16) }
    }
    return elements
  }

  /// Packs the weights for the backward pass too, where that has not been done.
  public func prepareForTraining() throws {
    guard checkpoint != nil else { return }
    let loader = WeightLoader(checkpoint: checkpoint, device: device, directions: .backward, storage: storage)
    try loader.extend(head, headName)
    for (layer, block) in blocks.enumerated() {
      for module in TargetModule.allCases {
        try loader.extend(block[module].matrix, module.path(layer: layer) + ".weight")
      }
    }
  }

  /// Bytes of all matrices on the device.
  package var matrixByteCount: Int {
    blocks.reduce(head.byteCount) { sum, block in TargetModule.allCases.reduce(sum) { $0 + block[$1].matrix.byteCount }
    }
  }

  // MARK: Adapter

  /// Makes an adapter of all zeros for this model; it takes effect when attached.
  public func makeAdapter(_ configuration: LoRAConfiguration, training: Bool) throws -> Adapter {
    guard configuration.rank > 0, configuration.rank <= 65_536, !configuration.targetModules.isEmpty else {
      throw ModelError("an adapter needs a rank of at least 1 and at least one target module")
    }
    return try Adapter(configuration, for: self.configuration, on: device, training: training) { place in
      let matrix = blocks[place.layer][place.module].matrix
      return Magnitudes.Base(
        matrix: matrix,
        squaredRowNorms: try WeightLoader(checkpoint: checkpoint, device: device, directions: []).squaredRowNorms(
          place.module.path(layer: place.layer) + ".weight", rows: matrix.outputs, columns: matrix.inputs))
    }
  }

  /// Puts `adapter` beside the weights, in place of any other; nil takes it away.
  public func attach(_ adapter: Adapter?) {
    self.adapter = adapter
    training = nil
    inference = nil
    decoding?.recordings = [:]
    for layer in blocks.indices {
      for module in TargetModule.allCases {
        blocks[layer][module].lowRank = adapter?.pairs[Adapter.Place(layer: layer, module: module)]
      }
    }
  }

  /// Whether a backward pass has anything to learn.
  var isLearning: Bool { adapter?.gradients != nil || full != nil }

  /// Takes the weights themselves for what learns; `embedding`: the table's values, fp32 `[vocabulary, hidden]`.
  func learn(_ full: FullParameters, embedding: Tensor) {
    self.full = full
    self.embedding = .learned(embedding)
  }

  /// Runs `work` with the model as it was before its adapter.
  public func withoutAdapter<Result>(_ work: () throws -> Result) rethrows -> Result {
    let kept = blocks
    for layer in blocks.indices {
      for module in TargetModule.allCases { blocks[layer][module].lowRank = nil }
    }
    defer { blocks = kept }
    return try work()
  }

  // MARK: Tokens

  /// Writes the embedding rows of `tokens` to the first rows of `x` (residual `[T, hidden]`).
  func embed(_ tokens: [Int32], into x: Tensor) throws {
    if let bad = tokens.first(where: { $0 < 0 || Int($0) >= shape.vocabulary }) {
      throw ModelError("token \(bad) lies outside the model's vocabulary of \(shape.vocabulary)")
    }
    if case .onDevice(let table) = embedding { return try device.embed(tokens, table, into: x.prefix(tokens.count)) }
    if case .learned(let table) = embedding {
      return try device.gather(table, rows: tokens, to: x.prefix(tokens.count))
    }
    // Some rows at a time, each on several threads: a long batch's rows are larger than what they are drawn from.
    let (width, table) = (shape.hidden, embedding)
    let atOnce = max(1, (32 << 20) / (4 * width))
    for first in stride(from: 0, to: tokens.count, by: atOnce) {
      let part = Array(tokens[first..<min(first + atOnce, tokens.count)])
      let rows = try [Float](unsafeUninitializedCapacity: part.count * width) { rows, count in
        nonisolated(unsafe) let base = rows.baseAddress
        let block = max(1, 32_768 / width)
        try device.concurrently(tasks: (part.count + block - 1) / block) { task in
          guard let base else { return }
          let range = task * block..<min((task + 1) * block, part.count)
          for index in range { try table.decode(part[index], width: width, into: base + index * width) }
          if case .onHost(let stored) = table {
            try stored.requireFinite(base + range.lowerBound * width, count: range.count * width)
          }
        }
        count = part.count * width
      }
      try rows.withUnsafeBytes { try device.upload($0, to: x.rows(first..<first + part.count)) }
    }
  }

  /// Whether embedding rows are looked up on the device.
  var embedsOnDevice: Bool { if case .onDevice = embedding { true } else { false } }

  /// The same of tokens that the device knows, int32 `[1, rows]`, where ``embedsOnDevice``.
  func embed(_ tokens: Tensor, with paged: any PagedDecoding, into x: Tensor) throws {
    guard case .onDevice(let table) = embedding else { return }
    try paged.embed(tokens, table, into: x)
  }

  /// What every block of a batch shares; `reaching`: the length for which tables are made, where that is longer.
  func context(
    positions: [Int32], spans: [AttentionSpan], longest: Int, dropout: DropoutKey?, tile: Int? = nil,
    reaching: Int = 0
  ) throws -> BlockContext {
    let tables = try rotary.tables(length: longest, reaching: reaching)
    return BlockContext(
      attention: AttentionShape(
        heads: shape.heads, keyValueHeads: shape.keyValueHeads, headDimension: shape.headDimension),
      epsilon: Float(configuration.rmsNormEpsilon), positions: positions, spans: spans, cosines: tables.cosines,
      sines: tables.sines, dropout: dropout, tile: tile)
  }

  // MARK: Training and evaluation

  /// Makes room for batches of up to `tokens` tokens.
  ///
  /// Called again with other numbers, it replaces the room.
  ///
  /// `plan`: what is kept between the passes.
  public func reserve(tokens: Int, _ plan: ActivationPlan = .everything) throws {
    training = nil
    training = try TrainingPass(self, capacity: tokens, plan)
  }

  /// Bytes that ``reserve(tokens:_:)`` would take on the device.
  public func activationByteCount(tokens: Int, _ plan: ActivationPlan) -> Int {
    // A model that only evaluates keeps nothing.
    let extent = TrainingPass.Extent(
      shape: shape, adapter: adapter?.configuration, isLearning: isLearning, capacity: tokens, plan: plan)
    return extent.byteCounts(on: device).device
  }

  /// Forward and backward over one micro-batch: adds the gradient of `lossScale` × the summed loss of the batch's trained
  /// tokens to the adapter's gradients.
  /// - Returns: the summed cross-entropy, unscaled.
  public func forwardBackward(
    _ batch: PackedBatch, lossScale: Float, dropout: DropoutKey? = nil, noise: EmbeddingNoise? = nil
  ) throws -> Double {
    try pass(for: batch).forwardBackward(batch, scales: .uniform(lossScale), dropout: dropout, noise: noise)
  }

  /// Forward and backward over one micro-batch whose documents count differently: `weigh` is given the summed loss of each
  /// document's trained tokens and gives back what the gradient of each is multiplied by.
  public func forwardBackward(
    _ batch: PackedBatch, dropout: DropoutKey? = nil, noise: EmbeddingNoise? = nil,
    weigh: @escaping (_ documentLosses: [Double]) -> [Float]
  ) throws {
    _ = try pass(for: batch).forwardBackward(batch, scales: .byDocument(weigh), dropout: dropout, noise: noise)
  }

  /// The summed cross-entropy of each document's trained tokens.
  public func documentLosses(_ batch: PackedBatch) throws -> [Double] {
    try pass(for: batch).documentLosses(batch)
  }

  /// The summed cross-entropy of a batch's trained tokens; each one's loss goes to `tokenLosses` in order, where wanted.
  public func evaluate(_ batch: PackedBatch, tokenLosses: ((ArraySlice<Float>) -> Void)? = nil) throws -> Double {
    try pass(for: batch).evaluate(batch, tokenLosses: tokenLosses)
  }

  /// The logits of a batch's trained rows, fp32 `[rows, vocabulary]`, some rows at a time; `body` must not keep them.
  /// - Returns: the summed cross-entropy.
  package func logits(of batch: PackedBatch, _ body: @escaping (Tensor) throws -> Void) throws -> Double {
    try pass(for: batch).evaluate(batch, rowLogits: body, tokenLosses: nil)
  }

  /// The backward pass of the log-likelihood of tokens that the observer draws, one for each of a batch's trained rows.
  package func observeBackward(_ batch: PackedBatch, _ observer: BackwardObserver) throws {
    try pass(for: batch).observeBackward(batch, observer)
  }

  private func pass(for batch: PackedBatch) throws -> TrainingPass {
    if let training, training.capacity >= batch.tokens.count { return training }
    try reserve(tokens: batch.tokens.count, training?.plan ?? .everything)
    guard let training else { throw ModelError("no room was made for a batch") }
    return training
  }
}

/// Where the rows of the embedding lie.
private enum TokenEmbedding: Sendable {
  /// In the checkpoint.
  case onHost(StoredTensor)
  /// In a matrix of the device.
  case onDevice(any FrozenMatrix)
  /// Among the parameters that learn: fp32 `[vocabulary, hidden]`.
  case learned(Tensor)
  /// In the host's memory, in bf16.
  case table([UInt16])
  /// Drawn: rows that tokens share, since nobody measures what they say.
  case random([Float])

  /// Drawn rows of `width` elements.
  static func drawn(width: Int) -> TokenEmbedding {
    var random = RandomSource(seed: 3407)
    return .random((0..<256 * width).map { _ in Float(2 * random.uniform() - 1) })
  }

  /// One token's row.
  func decode(_ token: Int32, width: Int, into row: UnsafeMutablePointer<Float>) throws {
    switch self {
    case .onHost(let tensor): try tensor.decode(rows: Int(token)..<Int(token) + 1, into: row)
    case .onDevice, .learned: break
    case .table(let elements):
      let first = Int(token) * width
      for index in 0..<width { row[index] = Float(bitPattern: UInt32(elements[first + index]) << 16) }
    case .random(let rows):
      let first = Int(token) % (rows.count / width) * width
      for index in 0..<width { row[index] = rows[first + index] }
    }
  }
}
