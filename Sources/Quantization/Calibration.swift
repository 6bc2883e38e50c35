import CPUDevice
import CPUKernels
import ModelFiles
import Models
import Tensors

/// What a model does with calibration text: which linear layers' errors its predictions would show, and what their inputs
/// are like.
///
/// One backward pass, of tokens drawn from the model's own distribution. Quantizing module m changes its weights by E; to
/// second order the mean KL divergence of the next token is then ½ · E[(Σ over a text's tokens of gᵀ E x)²], with x the
/// module's input and g the gradient of the drawn tokens' log-likelihood by its output: the Fisher information, which for
/// drawn tokens is the Hessian of KL.
public struct Calibration: Sendable {
  /// Layers that read the same input.
  struct Group: Hashable, Sendable {
    var layer: Int
    /// The first of the modules.
    var module: TargetModule
  }

  /// Predicted KL in nats per token when a module alone is quantized to the nearest codes, by its path.
  public internal(set) var sensitivities: [String: Double] = [:]
  /// The number of tokens that were read.
  public internal(set) var tokens = 0
  var inputs: [Group: InputStatistics] = [:]

  /// Of the inputs of a module.
  func statistics(layer: Int, _ module: TargetModule) -> InputStatistics? {
    let first: TargetModule =
      switch module {
      case .query, .key, .value: .query
      case .gate, .up: .gate
      case .output, .down: module
      }
    return inputs[Group(layer: layer, module: first)]
  }
}

/// Reads calibration text.
public final class Calibrator {
  /// Tokens of a text that is read on its own.
  public static let window = 512
  /// Texts that are read at once.
  private static let windowsAtOnce = 4
  /// Activations that are kept rather than computed again.
  private static let mostActivationBytes = 4 << 30

  private let model: LanguageModel
  private let checkpoint: Checkpoint
  private let host: CPUDevice
  private var random: RandomSource
  private var result = Calibration()
  private var sums: [String: Double] = [:]
  private var documents: [Range<Int>] = []
  private let correlates: Bool

  /// A calibrator of a model that is prepared for training, and of the checkpoint that it was loaded from.
  ///
  /// - Parameter correlates: whether `Rounding.compensated` will want the inputs' correlations: fp32 `[inputs, inputs]` of
  ///   every group of layers.
  public init(_ model: LanguageModel, _ checkpoint: Checkpoint, correlates: Bool, seed: UInt64 = 3407) {
    self.model = model
    self.checkpoint = checkpoint
    self.correlates = correlates
    host = model.device as? CPUDevice ?? CPUDevice()
    random = RandomSource(seed: seed, stream: 0xCA11)
  }

  /// Reads the windows that tokens fill; `onProgress` receives the tokens read so far.
  public func read(_ tokens: [Int32], onProgress: (Int) throws -> Void = { _ in }) throws -> Calibration {
    let windows = tokens.count / Self.window
    guard windows >= 2 else {
      throw ModelError(
        "the calibration text has \(tokens.count) tokens; at least \(2 * Self.window), better 100,000, are needed")
    }
    // An adapter of zeros changes nothing, and with one to train, layers keep what their backward pass reads.
    let before = model.adapter
    let adapter = try model.makeAdapter(LoRAConfiguration(rank: 16, targetModules: [.down]), training: true)
    try adapter.refresh()
    model.attach(adapter)
    defer { model.attach(before) }
    let room = Self.windowsAtOnce * Self.window
    let isLarge = model.activationByteCount(tokens: room, .everything) > Self.mostActivationBytes
    try model.reserve(tokens: room, isLarge ? .inputs : .everything)
    let observer = BackwardObserver(
      draw: { [unowned self] in try draw($0) },
      observe: { [unowned self] in try observe(layer: $0, $1, $2, $3) })
    for first in stride(from: 0, to: windows, by: Self.windowsAtOnce) {
      var batch = PackedBatch()
      for window in first..<min(first + Self.windowsAtOnce, windows) {
        let ids = Array(tokens[window * Self.window..<(window + 1) * Self.window])
        batch.append(ids, isTrained: [Bool](repeating: true, count: ids.count))
      }
      documents = batch.documents
      try model.observeBackward(batch, observer)
      result.tokens += batch.trainedTokenCount
      try onProgress(result.tokens)
    }
    result.sensitivities = sums.mapValues { 0.5 * $0 / Double(result.tokens) }
    return result
  }

  private func draw(_ logits: Tensor) throws -> [Int32] {
    let uniform = (0..<logits.rows).map { _ in random.uniform() }
    return Distributions.draw(
      try model.device.floats(logits), rows: logits.rows, vocabulary: logits.columns, uniform: uniform)
  }

  private func observe(layer: Int, _ modules: [TargetModule], _ x: Tensor, _ gradients: [Tensor]) throws {
    let x = try onHost(x)
    let gradients = try gradients.map(onHost)
    let (rows, inputs) = (x.rows, x.columns)
    var weights = [Float](repeating: 0, count: rows)
    var part = weights
    for gradient in gradients {
      CalibrationSums.rowDots(gradient, gradient, into: &part)
      for row in 0..<rows { weights[row] += part[row] }
    }
    let group = Calibration.Group(layer: layer, module: modules[0])
    try CalibrationSums.add(
      x, weights, to: &result.inputs[group, default: InputStatistics(inputs: inputs, correlates: correlates)], on: host)
    for (module, gradient) in zip(modules, gradients) {
      let path = module.path(layer: layer)
      let error = try CalibrationSums.error(of: checkpoint.tensor(path + ".weight"), as: x.dtype, on: host)
      let change = try CalibrationSums.product(x, error, on: host)
      CalibrationSums.rowDots(change, gradient, into: &part)
      for document in documents {
        let sum = part[document].reduce(0.0) { $0 + Double($1) }
        sums[path, default: 0] += sum * sum
      }
    }
  }

  /// The tensor in host memory.
  private func onHost(_ tensor: Tensor) throws -> Tensor {
    if model.device is CPUDevice { return tensor }
    let copy = Tensor(
      try host.allocate(byteCount: tensor.byteCount), rows: tensor.rows, columns: tensor.columns, dtype: tensor.dtype)
    let bytes = UnsafeMutableRawBufferPointer(
      start: UnsafeMutableRawPointer(bitPattern: copy.address), count: tensor.byteCount)
    try model.device.download(tensor, to: bytes)
    return copy
  }
}

extension BitsAndBytesExport {
  /// Reads calibration text with the model that is to be quantized, as it was loaded from the same checkpoint.
  ///
  /// - Parameter correlates: whether `Rounding.compensated` follows.
  public func calibrate(
    _ model: LanguageModel, on tokens: [Int32], correlates: Bool, seed: UInt64 = 3407,
    onProgress: (Int) throws -> Void = { _ in }
  ) throws -> Calibration {
    try model.prepareForTraining()
    return try Calibrator(model, checkpoint, correlates: correlates, seed: seed).read(tokens, onProgress: onProgress)
  }
}
