import Models
import Tensors

/// AdamW over an adapter's parameters: fp32 moments, decay apart from them, global clipping.
public final class AdapterOptimizer {
  /// The fixed numbers of the rule.
  public struct Options: Sendable, Equatable {
    /// Decay rate of the first moment.
    public var beta1: Double
    /// Decay rate of the second moment.
    public var beta2: Double
    /// Added to the root of the second moment.
    public var epsilon: Double
    /// Decoupled weight decay.
    public var weightDecay: Double
    /// The gradient is scaled down to this norm; 0 switches clipping off.
    public var maxGradientNorm: Double

    /// Options; the defaults are the common ones.
    public init(
      beta1: Double = 0.9, beta2: Double = 0.999, epsilon: Double = 1e-8, weightDecay: Double = 0.01,
      maxGradientNorm: Double = 1
    ) {
      self.beta1 = beta1
      self.beta2 = beta2
      self.epsilon = epsilon
      self.weightDecay = weightDecay
      self.maxGradientNorm = maxGradientNorm
    }
  }

  /// What is being learned.
  public let adapter: Adapter
  /// The rule's numbers.
  public let options: Options
  /// Steps done so far.
  public private(set) var step = 0
  private let device: any Device
  private let firstMoment: Tensor
  private let secondMoment: Tensor

  /// An optimizer whose moments are zero.
  public init(_ adapter: Adapter, on device: any Device, options: Options = Options()) throws {
    self.adapter = adapter
    self.device = device
    self.options = options
    func zeros() throws -> Tensor {
      let tensor = Tensor(
        try device.allocate(byteCount: max(adapter.count, 1) * 4), rows: 1, columns: adapter.count, dtype: .float32)
      try device.zero(tensor)
      return tensor
    }
    firstMoment = try zeros()
    secondMoment = try zeros()
  }

  /// The norm of the gradient that the step's micro-batches have added up.
  ///
  /// Call once per step, before ``apply(learningRate:gradientNorm:)``.
  public func gradientNorm() throws -> Double {
    guard let gradients = adapter.gradients else { throw ModelError("the adapter was loaded to be used, not trained") }
    try adapter.finishGradients()
    return try device.squaredNorm(gradients).squareRoot()
  }

  /// Moves the parameters by one step, clears the gradients and refreshes the adapter's copies.
  public func apply(learningRate: Double, gradientNorm: Double) throws {
    guard let gradients = adapter.gradients else { return }
    step += 1
    // As torch's clip_grad_norm_ does.
    let clip = options.maxGradientNorm > 0 ? min(1, options.maxGradientNorm / (gradientNorm + 1e-6)) : 1
    try device.adamW(
      parameters: adapter.parameters, gradients: gradients, firstMoment: firstMoment, secondMoment: secondMoment,
      AdamWStep(
        learningRate: Float(learningRate), beta1: options.beta1, beta2: options.beta2,
        epsilon: Float(options.epsilon), weightDecay: Float(options.weightDecay), gradientScale: Float(clip),
        step: step))
    try clearGradients()
    try adapter.refresh()
  }

  /// Forgets what the micro-batches have added up.
  public func clearGradients() throws {
    if let gradients = adapter.gradients { try device.zero(gradients) }
  }

  // MARK: State

  /// Both moments, in the order of the adapter's parts.
  public func moments() throws -> (first: [Float], second: [Float]) {
    (try device.floats(firstMoment), try device.floats(secondMoment))
  }

  /// Goes on from saved moments after `step` steps.
  public func restore(first: [Float], second: [Float], step: Int) throws {
    guard first.count == adapter.count, second.count == adapter.count, step >= 0 else {
      throw ModelError(
        "saved moments of \(first.count) and \(second.count) values do not fit \(adapter.count) parameters")
    }
    try first.withUnsafeBytes { try device.upload($0, to: firstMoment) }
    try second.withUnsafeBytes { try device.upload($0, to: secondMoment) }
    self.step = step
  }
}
