import ModelFiles
import Models

/// What decides which linear layers stay in 16 bits.
public enum LayerMeasure: String, Sendable, CaseIterable {
  /// What calibration predicts.
  case estimate
  /// The squared error of the weights: for comparison.
  case weightError = "weight-error"
  /// Nothing: for comparison.
  case random
}

/// A budget that cannot be kept, or a list that does not fit the model.
public struct QuantizationError: Error, CustomStringConvertible, Equatable {
  /// One line for the user.
  public let description: String

  /// An error with its line.
  public init(_ description: String) { self.description = description }
}

extension BitsAndBytesExport {
  /// Finds the codes of all linear layers, and what each then costs.
  ///
  /// - Parameters:
  ///   - calibration: nil only for `Rounding.nearest`.
  ///   - blocks: the blocks whose layers are meant; nil: all.
  ///   - onProgress: receives the number of layers done.
  public mutating func quantize(
    _ rounding: Rounding, _ calibration: Calibration?, blocks: Range<Int>? = nil,
    onProgress: (Int) throws -> Void = { _ in }
  ) throws {
    self.rounding = rounding
    // Layers that read one input stand side by side.
    var (reader, compensation) = (Calibration.Group?.none, Compensation?.none)
    for index in layers.indices where blocks?.contains(layers[index].layer) ?? true {
      let layer = layers[index]
      let plan = tensors[layer.tensor].plan
      let statistics = calibration?.statistics(layer: layer.layer, layer.modules[0])
      let group = Calibration.Group(layer: layer.layer, module: Calibration.firstReader(layer.modules[0]))
      if rounding == .compensated, let statistics, group != reader {
        compensation = nil
        (reader, compensation) = (group, try Compensation(statistics))
      }
      let matrix = try NF4Matrix(
        StackedRows(plan.parts, name: layer.name), rounding, statistics, compensation)
      for part in plan.parts { part.releasePages() }
      if let calibration {
        let sensitivity = layer.modules.reduce(0.0) {
          $0 + (calibration.sensitivities[$1.path(layer: layer.layer)] ?? 0)
        }
        layers[index].sensitivity = sensitivity
        layers[index].predictedKL = sensitivity * matrix.errorRatio
      }
      layers[index].relativeError = matrix.relativeError
      // The nearest codes are made again while they are written.
      if rounding != .nearest { tensors[layer.tensor].matrix = matrix }
      try onProgress(index + 1)
    }
  }

  /// The bytes that `percent` more than all in four bits are; throws where nothing or everything could be kept.
  @discardableResult
  public func budget(percent: Double) throws -> Int {
    guard percent > 0, percent.isFinite else { throw QuantizationError("--budget must be above 0 per cent") }
    let costs = layers.map(\.extraByteCount)
    guard let smallest = costs.min() else { throw QuantizationError("the model has no linear layers to quantize") }
    func share(_ bytes: Int) -> String { "\((Double(bytes) / Double(plainByteCount) * 1000).rounded(.up) / 10)" }
    let limit = percent / 100 * Double(plainByteCount)
    let all = costs.reduce(0, +)
    guard limit < Double(all) else {
      throw QuantizationError(
        "a budget of \(percent)% keeps every layer in 16 bits (that takes \(share(all))%): there is nothing to quantize"
      )
    }
    guard Int(limit) >= smallest else {
      throw QuantizationError("a budget of \(percent)% keeps nothing: the smallest layer takes \(share(smallest))%")
    }
    return Int(limit)
  }

  /// Keeps those linear layers in 16 bits that save most, in `percent` more bytes than all in four bits take.
  public mutating func keepBest(percent: Double, by measure: LayerMeasure = .estimate, seed: UInt64 = 3407) throws {
    let budget = try budget(percent: percent)
    let costs = layers.map(\.extraByteCount)
    let chosen: Set<Int>
    switch measure {
    case .estimate: chosen = Knapsack.choose(costs: costs, values: layers.map { $0.predictedKL ?? 0 }, budget: budget)
    case .weightError:
      let errors = try layers.map { layer in
        let rows = StackedRows(tensors[layer.tensor].plan.parts, name: layer.name)
        return (layer.relativeError ?? 0) * (try rows.squaredNorm())
      }
      chosen = Knapsack.choose(costs: costs, values: errors, budget: budget)
    case .random:
      var (order, random, rest) = (Array(layers.indices), RandomSource(seed: seed), budget)
      random.shuffle(&order)
      var taken: Set<Int> = []
      for index in order where costs[index] <= rest {
        taken.insert(index)
        rest -= costs[index]
      }
      chosen = taken
    }
    keep(Set(chosen.map { layers[$0].name }))
  }

  /// What Unsloth keeps of Phi-4 in 16 bits, beside the head: the MLPs of layers 1 to 3, the attention outputs of 37 and 39.
  public mutating func keepLikeUnsloth() throws {
    guard checkpoint.configuration.layerCount == 40 else {
      throw QuantizationError(
        "--like unsloth is a list for Phi-4's 40 layers, this model has \(checkpoint.configuration.layerCount)")
    }
    let multilayer: [TargetModule] = [.gate, .up, .down]
    keep(
      Set((1...3).flatMap { layer in multilayer.map { $0.path(layer: layer) } })
        .union([37, 39].map { TargetModule.output.path(layer: $0) }))
  }
}
