import CPUDevice
import ModelFiles
import Models
import Tensors

/// A choice of layers to keep in 16 bits that is looked at more closely.
public struct Finalist: Sendable, Equatable {
  /// The layers that stay in 16 bits.
  public let kept: Set<String>
  /// The sum of the predictions for the others, in nats per token.
  public let predictedKL: Double
  /// Mean KL divergence from the 16-bit model on text that calibration did not read, in nats per token.
  public internal(set) var measuredKL: Double?
}

extension BitsAndBytesExport {
  /// The choice that is predicted to be the best, and others that would be if calibration had read other texts of the same
  /// kind, all within the budget: at most `count`, no two alike.
  public func finalists(
    percent: Double, _ calibration: Calibration, count: Int, seed: UInt64 = 3407
  ) throws -> [Finalist] {
    let budget = try budget(percent: percent)
    let costs = layers.map(\.extraByteCount)
    var finalists: [Finalist] = []
    // Resamplings that agree add none.
    for attempt in 0..<(count > 1 ? 4 * count : 1) where finalists.count < count {
      let values: [Double]
      if attempt == 0 {
        values = layers.map { $0.predictedKL ?? 0 }
      } else {
        let sensitivities = calibration.resampledSensitivities(seed: seed &+ UInt64(attempt))
        values = layers.map { layer in
          let found = layer.modules.reduce(0.0) { $0 + (sensitivities[$1.path(layer: layer.layer)] ?? 0) }
          guard let sensitivity = layer.sensitivity, sensitivity > 0 else { return 0 }
          return found * (layer.predictedKL ?? 0) / sensitivity
        }
      }
      let chosen = Knapsack.choose(costs: costs, values: values, budget: budget)
      let kept = Set(chosen.map { layers[$0].name })
      guard !finalists.contains(where: { $0.kept == kept }) else { continue }
      let rest = layers.indices.reduce(0.0) { $0 + (chosen.contains($1) ? 0 : layers[$1].predictedKL ?? 0) }
      finalists.append(Finalist(kept: kept, predictedKL: rest))
    }
    return finalists
  }

  /// Keeps the layers of that finalist whose KL divergence on `tokens` is the smallest; the report shows all.
  ///
  /// - Parameters:
  ///   - model: the 16-bit model; its weights are replaced, so that nothing else can be done with it afterwards.
  ///   - tokens: whole windows that calibration did not read.
  ///   - onProgress: receives the number of finalists done.
  public mutating func keepBest(
    of finalists: [Finalist], by model: LanguageModel, on tokens: [Int32], onProgress: (Int) throws -> Void = { _ in }
  ) throws {
    var measured = finalists
    let check = try FinalistCheck(model, tokens, layers)
    for index in measured.indices {
      let kept = measured[index].kept
      measured[index].measuredKL = try check.divergence(keeping: kept) { try weights(of: $0, keeping: kept) }
      try onProgress(index + 1)
    }
    guard let best = measured.min(by: { ($0.measuredKL ?? .infinity) < ($1.measuredKL ?? .infinity) }) else { return }
    self.finalists = measured
    keep(best.kept)
  }

  /// What the modules of a block compute with, where it is not the checkpoint's weights.
  private func weights(of block: Int, keeping kept: Set<String>) throws -> [TargetModule: MatrixSource] {
    var sources: [TargetModule: MatrixSource] = [:]
    for layer in layers where layer.layer == block && !kept.contains(layer.name) {
      let tensor = tensors[layer.tensor]
      let rows = StackedRows(tensor.plan.parts, name: layer.name)
      let decoder = NF4Decoder(try tensor.matrix ?? NF4Matrix(rows, .nearest, nil))
      var first = 0
      for module in layer.modules {
        let size = checkpoint.configuration.size(of: module)
        let start = first
        sources[module] = MatrixSource(outputs: size.outputs, inputs: size.inputs) { rows, target in
          decoder.decode(
            (start + rows.lowerBound) * size.inputs..<(start + rows.upperBound) * size.inputs, into: target)
        }
        first += size.outputs
      }
    }
    return sources
  }
}

/// Compares a model with itself under other weights.
private final class FinalistCheck {
  private let model: LanguageModel
  private let windows: [PackedBatch]
  /// The logits of the weights as they were, of every window.
  private var reference: [[Float]] = []
  private let layers: [LinearLayer]
  /// The layers of each block that are in 16 bits now; nil: none was replaced yet.
  private var kept: [Set<String>?]

  init(_ model: LanguageModel, _ tokens: [Int32], _ layers: [LinearLayer]) throws {
    self.model = model
    self.layers = layers
    let length = Calibrator.window
    windows = stride(from: 0, through: tokens.count - length, by: length).map { start in
      var batch = PackedBatch()
      batch.append(tokens[start..<start + length], isTrained: [Bool](repeating: true, count: length)[...])
      return batch
    }
    guard !windows.isEmpty else { throw ModelError("there is no text to check choices on") }
    kept = [Set<String>?](repeating: nil, count: model.configuration.layerCount)
    try model.reserve(tokens: length, .inputs)
    for window in windows {
      var rows: [Float] = []
      _ = try model.logits(of: window) { [model] in rows += try model.device.floats($0) }
      reference.append(rows)
    }
  }

  /// Mean KL when `kept` are in 16 bits; `weights` gives what the others of a block compute with.
  func divergence(
    keeping kept: Set<String>, _ weights: (_ block: Int) throws -> [TargetModule: MatrixSource]
  ) throws -> Double {
    for block in self.kept.indices {
      let own = Set(layers.lazy.filter { $0.layer == block && kept.contains($0.name) }.map(\.name))
      guard own != self.kept[block] else { continue }
      let sources = try weights(block)
      try model.replaceMatrices(layer: block) { sources[$0] }
      self.kept[block] = own
    }
    let vocabulary = model.configuration.vocabularySize
    var (sum, count) = (0.0, 0)
    for (window, rows) in zip(windows, reference) {
      var row = 0
      _ = try model.logits(of: window) { [model] logits in
        let own = try model.device.floats(logits)
        rows[(row * vocabulary)...].withUnsafeBufferPointer { rows in
          guard let base = rows.baseAddress, rows.count >= own.count else { return }
          let found = Distributions.divergence(base, own, rows: logits.rows, vocabulary: vocabulary).divergence
          sum += found.reduce(0, +)
          count += found.count
        }
        row += logits.rows
      }
    }
    return sum / Double(max(count, 1))
  }
}
