import CPUDevice
import ModelFiles
import Models
import Tensors

/// Reads calibration text.
public final class Calibrator {
  /// Tokens of a text that is read on its own.
  public static let window = 512
  /// Texts that are read at once.
  static let windowsAtOnce = 4
  /// Activations that are kept rather than computed again.
  static let mostActivationBytes = 4 << 30

  let model: LanguageModel
  private let checkpoint: Checkpoint
  private let host: CPUDevice
  private let seed: UInt64
  private var pass = Pass()

  /// What one reading collects.
  private struct Pass {
    var random = RandomSource(seed: 0)
    var result = Calibration()
    var documents: [Range<Int>] = []
    /// The modules' changes in the documents of the batch.
    var measures = true
    var correlated = 0..<0
    /// The sums of a device that computes them itself.
    var sums: DeviceSums?
  }

  /// A calibrator of a model and of the checkpoint that it was loaded from.
  public init(_ model: LanguageModel, _ checkpoint: Checkpoint, seed: UInt64 = 3407) {
    self.model = model
    self.checkpoint = checkpoint
    self.seed = seed
    host = model.device as? CPUDevice ?? CPUDevice()
  }

  /// Bytes of the activations of one batch, and of the logits that tokens are drawn from.
  func activationByteCount() throws -> Int {
    try whileLearning {
      model.activationByteCount(tokens: Self.windowsAtOnce * Self.window, activationPlan)
        + 4 * model.device.headRows * model.configuration.vocabularySize
    }
  }

  /// Runs `work` with an adapter of zeros, which changes nothing; with one to train, layers keep what their backward pass
  /// reads.
  private func whileLearning<Result>(_ work: () throws -> Result) throws -> Result {
    let before = model.adapter
    let adapter = try model.makeAdapter(LoRAConfiguration(rank: 16, targetModules: [.down]), training: true)
    try adapter.refresh()
    model.attach(adapter)
    defer { model.attach(before) }
    return try work()
  }

  private var activationPlan: ActivationPlan {
    let room = Self.windowsAtOnce * Self.window
    let isLarge = model.activationByteCount(tokens: room, .everything) > Self.mostActivationBytes
    return isLarge ? .inputs : .everything
  }

  /// Reads the windows that tokens fill; `onProgress` receives the tokens read so far.
  ///
  /// - Parameters:
  ///   - correlated: the blocks whose inputs' correlations `Rounding.compensated` will want: fp32 `[inputs, inputs]` of
  ///     every group of layers.
  ///   - measures: whether what quantizing costs is wanted; without it, blocks below those correlated are not passed.
  public func read(
    _ tokens: [Int32], correlated: Range<Int> = 0..<0, measures: Bool = true,
    onProgress: (Int) throws -> Void = { _ in }
  ) throws -> Calibration {
    let windows = tokens.count / Self.window
    guard windows >= 2 else {
      throw ModelError(
        "the calibration text has \(tokens.count) tokens; at least \(2 * Self.window), better 100,000, are needed")
    }
    pass = Pass()
    pass.random = RandomSource(seed: seed, stream: 0xCA11)
    (pass.measures, pass.correlated) = (measures, correlated)
    pass.sums = (model.device as? any CalibratingDevice).map { DeviceSums(on: $0) }
    try model.prepareForTraining()
    try whileLearning {
      try model.reserve(tokens: Self.windowsAtOnce * Self.window, activationPlan)
      let observer = BackwardObserver(
        lowestLayer: measures ? 0 : correlated.lowerBound, draw: { [unowned self] in try draw($0) },
        observe: { [unowned self] in try observe(layer: $0, $1, $2, $3) })
      for first in stride(from: 0, to: windows, by: Self.windowsAtOnce) {
        var batch = PackedBatch()
        for window in first..<min(first + Self.windowsAtOnce, windows) {
          let ids = Array(tokens[window * Self.window..<(window + 1) * Self.window])
          batch.append(ids, isTrained: [Bool](repeating: true, count: ids.count))
        }
        pass.documents = batch.documents
        try model.observeBackward(batch, observer)
        pass.result.tokens += batch.trainedTokenCount
        try onProgress(pass.result.tokens)
      }
    }
    defer { pass = Pass() }
    try pass.sums?.add(to: &pass.result)
    return pass.result
  }

  private func draw(_ logits: Tensor) throws -> [Int32] {
    let uniform = (0..<logits.rows).map { _ in pass.random.uniform() }
    return Distributions.draw(
      try model.device.floats(logits), rows: logits.rows, vocabulary: logits.columns, uniform: uniform)
  }

  private func observe(layer: Int, _ modules: [TargetModule], _ x: Tensor, _ gradients: [Tensor]) throws {
    let correlates = pass.correlated.contains(layer)
    guard pass.measures || correlates else { return }
    let group = Calibration.Group(layer: layer, module: modules[0])
    if let sums = pass.sums {
      let weights = try sums.weights(gradients)
      try sums.add(x, weights, to: group, correlates: correlates)
      guard pass.measures else { return }
      for (module, gradient) in zip(modules, gradients) {
        let dots = try sums.changes(x, model.matrix(of: module, layer: layer), gradient)
        record(dots, of: module.path(layer: layer))
      }
      return
    }
    let x = try onHost(x)
    let gradients = try gradients.map(onHost)
    let (rows, inputs) = (x.rows, x.columns)
    var weights = [Float](repeating: 0, count: rows)
    var part = weights
    for gradient in gradients {
      CalibrationSums.rowDots(gradient, gradient, into: &part)
      for row in 0..<rows { weights[row] += part[row] }
    }
    try CalibrationSums.add(
      x, weights, to: &pass.result.inputs[group, default: InputStatistics(inputs: inputs, correlates: correlates)],
      on: host)
    guard pass.measures else { return }
    for (module, gradient) in zip(modules, gradients) {
      let path = module.path(layer: layer)
      let error = try CalibrationSums.error(of: checkpoint.tensor(path + ".weight"), as: x.dtype, on: host)
      let change = try CalibrationSums.product(x, error, on: host)
      CalibrationSums.rowDots(change, gradient, into: &part)
      record(part, of: path)
    }
  }

  /// Takes the changes of a module at the batch's tokens together, text by text.
  private func record(_ changes: [Float], of path: String) {
    for document in pass.documents {
      let sum = changes[document].reduce(0.0) { $0 + Double($1) }
      pass.result.changes[path, default: []].append(Float(sum * sum))
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
  /// - Parameter correlates: whether `Rounding.compensated` follows, all layers at once.
  public func calibrate(
    _ model: LanguageModel, on tokens: [Int32], correlates: Bool, seed: UInt64 = 3407,
    onProgress: (Int) throws -> Void = { _ in }
  ) throws -> Calibration {
    try Calibrator(model, checkpoint, seed: seed).read(
      tokens, correlated: correlates ? 0..<checkpoint.configuration.layerCount : 0..<0, onProgress: onProgress)
  }
}
