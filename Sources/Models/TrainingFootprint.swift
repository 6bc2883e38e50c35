import ModelFiles
import Tensors

/// Bytes of a device's memory that training a model takes, part by part, said before anything is loaded.
public struct TrainingFootprint: Sendable, Equatable {
  /// The matrices of all layers.
  public var layers: Int
  /// Embedding and head, as far as they lie on the device.
  public var vocabulary: Int
  /// What learns: parameters, gradients, the optimizer's moments, and the copies that products read.
  public var learned: Int
  /// What the device needs for itself.
  public var working: Int
  /// What a step keeps and works in.
  public var activations: Int
  /// Bytes of the host's memory for weights that take turns on the device, moments, and what layers keep there.
  public var host: Int

  /// All of the device's.
  public var total: Int { layers + vocabulary + learned + working + activations }
}

/// What decides how much memory training takes, but for the plan of its activations.
public struct TrainingExtent: Sendable {
  /// The model.
  public var configuration: ModelConfiguration
  /// How its matrices are kept.
  public var storage: WeightStorage
  /// The adapter that learns; nil: all weights do.
  public var adapter: LoRAConfiguration?
  /// Whether the optimizer's moments are kept in 8 bits.
  public var quantizesMoments: Bool
  /// The most tokens of a micro-batch.
  public var tokens: Int
  /// Bytes of the host's memory that are taken beside the device, the program itself left out: they count where its memory is the
  /// host's.
  public var hostByteCount = 0

  /// An extent from its parts.
  public init(
    _ configuration: ModelConfiguration, storage: WeightStorage, adapter: LoRAConfiguration?, quantizesMoments: Bool,
    tokens: Int
  ) {
    self.configuration = configuration
    self.storage = storage
    self.adapter = adapter
    self.quantizesMoments = quantizesMoments
    self.tokens = tokens
  }

  /// What a step takes on `device` by `plan`.
  public func footprint(_ plan: ActivationPlan, on device: any Device) -> TrainingFootprint {
    var footprint = fixedFootprint(on: device)
    let activations = activationByteCounts(plan, on: device)
    footprint.activations = activations.device
    footprint.host += activations.host
    return footprint
  }

  /// What a step takes beside its activations.
  public func fixedFootprint(on device: any Device) -> TrainingFootprint {
    let directions: ProductDirections = [.forward, .backward]
    func storage(_ module: String) -> FrozenStorage { self.storage[module] }
    let head = FrozenShape(
      outputs: [configuration.vocabularySize], inputs: configuration.hiddenSize,
      storage: [storage(configuration.tiesEmbeddings ? "model.embed_tokens" : "lm_head")], directions: directions)
    var vocabulary = [head]
    if device.embedsTokens, !configuration.tiesEmbeddings, !self.storage.embeddingIsOnHost {
      vocabulary.append(
        FrozenShape(
          outputs: [configuration.vocabularySize], inputs: configuration.hiddenSize, storage: [.operands],
          directions: []))
    }
    let layers = configuration.layerShapes(self.storage, directions: directions)
    let whole = device.frozenFootprint(vocabulary + layers, places: self.storage.streamPlaces)
    let ends = device.frozenFootprint(vocabulary, places: 0).matrices
    let parameters = parameterCount
    let moments = momentByteCounts
    let beside = device.memory == nil ? Self.programByteCount + hostByteCount : 0
    return TrainingFootprint(
      layers: whole.matrices - ends, vocabulary: ends,
      // Parameters and gradients in fp32, copies for products.
      learned: parameters * (8 + device.computeType.byteCount) + moments.device,
      working: whole.working + scratchByteCount(on: device) + beside, activations: 0,
      host: whole.host + moments.host)
  }

  /// The program and its libraries in memory, before they do anything.
  private static let programByteCount = 26 << 20

  /// Bytes of a loaded model's step that are not there before it: where the device's memory is the host's also the rooms in which
  /// quantized matrices are opened.
  package func lateByteCount(on device: any Device) -> Int {
    guard device.memory == nil else { return scratchByteCount(on: device) }
    return fixedFootprint(on: device).working - Self.programByteCount
  }

  /// Bytes of the optimizer's moments on the device and on the host: in fp32, or in codes with one absmax for 256 of them.
  package var momentByteCounts: (device: Int, host: Int) {
    let parameters = parameterCount
    guard storage.momentsAreOnHost else { return (keptMomentByteCount, 0) }
    let piece = MomentPieces.byteCount(min(parameters, MomentPieces.length), isQuantized: quantizesMoments)
    return (MomentPieces.places * piece, (parameters + MomentPieces.length - 1) / MomentPieces.length * piece)
  }

  private var keptMomentByteCount: Int {
    quantizesMoments ? 2 * (parameterCount + parameterCount / 64) : 8 * parameterCount
  }

  /// Bytes of the copy that a checkpoint is written from while steps go on: parameters in fp32, and their moments.
  public var checkpointByteCount: Int { 4 * parameterCount + keptMomentByteCount }

  /// Parameters that learn.
  public var parameterCount: Int {
    guard let adapter else { return configuration.tensors.reduce(0) { $0 + $1.shape.reduce(1, *) } }
    return configuration.layerCount
      * adapter.targetModules.reduce(0) { sum, module in
        let size = configuration.size(of: module)
        return sum + adapter.rank * (size.inputs + size.outputs) + (adapter.useDoRA ? 3 * size.outputs : 0)
      }
  }

  /// Bytes that a device allocates when a step first needs them: sums, losses, positions, threads' own room, and the copies that
  /// dropout makes.
  public func scratchByteCount(on device: any Device) -> Int {
    let dropped =
      (adapter?.dropout ?? 0) > 0 ? tokens * (2 * configuration.intermediateSize + 4 * configuration.hiddenSize) : 0
    // Cosines and sines of every position, beyond those that the rest has room for.
    let rotation = max(0, tokens * configuration.headDimension * 4 - (8 << 20))
    return ((device.memory == nil ? 10 : 16) << 20) + dropped + rotation
  }

  /// Bytes of a step's activations on the device and on the host.
  public func activationByteCounts(_ plan: ActivationPlan, on device: any Device) -> (device: Int, host: Int) {
    let extent = TrainingPass.Extent(
      shape: ModelShape(configuration), adapter: adapter, isLearning: true, capacity: tokens, plan: plan)
    return extent.byteCounts(on: device)
  }
}
