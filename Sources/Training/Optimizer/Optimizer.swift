import ModelFiles
import Models
import Tensors

/// AdamW over what a run learns: moments in fp32 or in 8 bits, decay apart from them, global clipping, groups of parameters.
///
/// Parts of one role are a group: B of a low-rank pair may learn faster than everything else (LoRA+; Hayou et al., 2024),
/// and vectors are never decayed, nor are their moments ever kept in 8 bits: they are few.
public final class Optimizer {
  /// The fixed numbers of the rule.
  public struct Options: Sendable, Equatable {
    /// Whether moments are 8-bit codes in blocks (Dettmers et al., 2022) instead of fp32.
    public var isQuantized: Bool
    /// Decay rate of the first moment.
    public var beta1: Double
    /// Decay rate of the second moment.
    public var beta2: Double
    /// Added to the root of the second moment.
    public var epsilon: Double
    /// Decoupled weight decay of matrices.
    public var weightDecay: Double
    /// The gradient is scaled down to this norm; 0 switches clipping off.
    public var maxGradientNorm: Double
    /// The learning rate of every B as a multiple of the others'.
    public var loraPlusRatio: Double

    /// Options; the defaults are the common ones.
    public init(
      beta1: Double = 0.9, beta2: Double = 0.999, epsilon: Double = 1e-8, weightDecay: Double = 0.01,
      maxGradientNorm: Double = 1, loraPlusRatio: Double = 1, isQuantized: Bool = false
    ) {
      self.isQuantized = isQuantized
      self.beta1 = beta1
      self.beta2 = beta2
      self.epsilon = epsilon
      self.weightDecay = weightDecay
      self.maxGradientNorm = maxGradientNorm
      self.loraPlusRatio = loraPlusRatio
    }
  }

  /// Parameters side by side that are treated alike.
  struct Group {
    var range: Range<Int>
    var rateFactor: Double
    var weightDecay: Double
    var isQuantized: Bool
  }

  /// Some parameters' moments.
  enum Moments {
    /// fp32 `[1, count]` each.
    case exact(first: Tensor, second: Tensor)
    case quantized(QuantizedMoments)
  }

  /// What is being learned.
  public let learned: any LearnedParameters
  /// The rule's numbers.
  public let options: Options
  /// Steps done so far.
  public internal(set) var step = 0
  let groups: [Group]
  let device: any Device
  /// By group, where they lie on the device.
  private let moments: [Moments]
  private let hostMoments: HostMoments?

  /// An optimizer whose moments are zero; `momentsAreOnHost`: they lie in the host's memory and pass through the device's.
  public convenience init(
    _ learned: any LearnedParameters, on device: any Device, options: Options = Options(),
    momentsAreOnHost: Bool = false
  ) throws {
    try self.init(
      learned, on: device, options: options, hostPieceLength: momentsAreOnHost ? MomentPieces.length : nil)
  }

  init(
    _ learned: any LearnedParameters, on device: any Device, options: Options, hostPieceLength: Int?
  ) throws {
    self.learned = learned
    self.device = device
    self.options = options
    groups = Self.groups(learned.parts, options)
    func zeros(_ count: Int) throws -> Tensor {
      let tensor = Tensor(try device.allocate(byteCount: max(count, 1) * 4), rows: 1, columns: count, dtype: .float32)
      try device.zero(tensor)
      return tensor
    }
    func codes(of zero: Int?, _ count: Int) throws -> Tensor {
      let tensor = Tensor(try device.allocate(byteCount: max(count, 1)), rows: 1, columns: count, dtype: .uint8)
      let values = [UInt8](repeating: UInt8(zero ?? 0), count: count)
      try values.withUnsafeBytes { try device.upload($0, to: tensor) }
      return tensor
    }
    var maps: (first: Tensor, second: Tensor)?
    if options.isQuantized { maps = (try device.tensor(DynamicMap.signed), try device.tensor(DynamicMap.unsigned)) }
    if let hostPieceLength {
      moments = []
      let host = try HostMoments(
        groups.map { ($0.range.count, $0.isQuantized) }, maps: maps, on: device, pieceLength: hostPieceLength)
      try host.fill { _, moments in
        switch moments {
        case .exact(let first, let second):
          try device.zero(first)
          try device.zero(second)
        case .quantized(let moments):
          for (codes, map) in [
            (moments.firstCodes, DynamicMap.signed), (moments.secondCodes, DynamicMap.unsigned),
          ] {
            let values = [UInt8](repeating: UInt8(map.firstIndex(of: 0) ?? 0), count: codes.columns)
            try values.withUnsafeBytes { try device.upload($0, to: codes) }
          }
          try device.zero(moments.firstScales)
          try device.zero(moments.secondScales)
        }
      }
      hostMoments = host
      return
    }
    hostMoments = nil
    moments = try groups.map { group in
      let count = group.range.count
      guard let maps, group.isQuantized else { return .exact(first: try zeros(count), second: try zeros(count)) }
      let blocks = (count + QuantizedMoments.blockLength - 1) / QuantizedMoments.blockLength
      return .quantized(
        QuantizedMoments(
          firstCodes: try codes(of: DynamicMap.signed.firstIndex(of: 0), count),
          secondCodes: try codes(of: DynamicMap.unsigned.firstIndex(of: 0), count), firstScales: try zeros(blocks),
          secondScales: try zeros(blocks), firstMap: maps.first, secondMap: maps.second))
    }
  }

  private static func groups(_ parts: [LearnedPart], _ options: Options) -> [Group] {
    var groups: [Group] = []
    for part in parts {
      let factor = part.role == .lowRankB ? options.loraPlusRatio : 1
      let decay = part.role == .vector ? 0 : options.weightDecay
      let isQuantized = options.isQuantized && part.role != .vector
      if let last = groups.last, last.rateFactor == factor, last.weightDecay == decay, last.isQuantized == isQuantized,
        last.range.upperBound == part.range.lowerBound
      {
        groups[groups.count - 1].range = last.range.lowerBound..<part.range.upperBound
      } else {
        groups.append(Group(range: part.range, rateFactor: factor, weightDecay: decay, isQuantized: isQuantized))
      }
    }
    return groups
  }

  /// The norm of the gradient that the step's micro-batches have added up.
  ///
  /// Call once per step, before ``apply(learningRate:gradientNorm:)``.
  public func gradientNorm() throws -> Double {
    guard let gradients = learned.gradients else {
      throw ModelError("the adapter was loaded to be used, not trained")
    }
    try learned.finishGradients()
    return try device.squaredNorm(gradients).squareRoot()
  }

  /// Moves the parameters by one step, clears the gradients and refreshes what the model reads.
  public func apply(learningRate: Double, gradientNorm: Double) throws {
    guard let gradients = learned.gradients else { return }
    step += 1
    // As torch's clip_grad_norm_ does.
    let clip = options.maxGradientNorm > 0 ? min(1, options.maxGradientNorm / (gradientNorm + 1e-6)) : 1
    func update(_ group: Group, _ part: Range<Int>, _ moments: Moments) throws {
      let rule = AdamWStep(
        learningRate: Float(learningRate * group.rateFactor), beta1: options.beta1, beta2: options.beta2,
        epsilon: Float(options.epsilon), weightDecay: Float(group.weightDecay), gradientScale: Float(clip), step: step)
      let range = group.range.lowerBound + part.lowerBound..<group.range.lowerBound + part.upperBound
      let parameters = learned.parameters.columns(range)
      let gradients = gradients.columns(range)
      switch moments {
      case .exact(let first, let second):
        try device.adamW(
          parameters: parameters, gradients: gradients, firstMoment: first, secondMoment: second, rule)
      case .quantized(let moments):
        try device.adamW8bit(parameters: parameters, gradients: gradients, moments, rule)
      }
    }
    for (group, moments) in zip(groups, moments) { try update(group, 0..<group.range.count, moments) }
    try hostMoments?.forEach { try update(groups[$0.group], $0.range, $1) }
    try clearGradients()
    try learned.refresh()
  }

  /// Forgets what the micro-batches have added up.
  public func clearGradients() throws {
    if let gradients = learned.gradients { try device.zero(gradients) }
  }

  // MARK: State

  /// The moments of some of a group's parameters, where they lie, one stretch after the other.
  func forEachMoments(
    changes: Bool, _ body: (_ group: Int, _ part: Range<Int>, _ moments: Moments) throws -> Void
  ) throws {
    for (index, moments) in moments.enumerated() { try body(index, 0..<groups[index].range.count, moments) }
    guard let hostMoments else { return }
    for (index, piece) in hostMoments.pieces.enumerated() {
      try hostMoments.use(index, changes: changes) { try body(piece.group, piece.range, $0) }
    }
  }
}
