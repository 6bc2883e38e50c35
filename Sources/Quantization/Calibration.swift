import ModelFiles
import Models

/// What a model does with calibration text: which linear layers' errors its predictions would show, and what their inputs
/// are like.
///
/// Quantizing module m changes its weights by E; to second order the mean KL divergence of the next token is then
/// ½ · E[(Σ over a text's tokens of gᵀ E x)²], with x the module's input and g the gradient of the log-likelihood of tokens
/// drawn from the model's own distribution by its output: the Fisher information, which is the Hessian of KL.
public struct Calibration: Sendable {
  /// Layers that read the same input.
  struct Group: Hashable, Sendable {
    var layer: Int
    /// The first of the modules.
    var module: TargetModule
  }

  /// The number of tokens that were read.
  public internal(set) var tokens = 0
  /// For each module by its path, of each text that was read on its own: (Σ gᵀ E x)², E being what the nearest codes lose.
  var changes: [String: [Float]] = [:]
  var inputs: [Group: InputStatistics] = [:]

  /// Predicted KL in nats per token when a module alone is quantized to the nearest codes, by its path.
  public var sensitivities: [String: Double] {
    changes.mapValues { $0.reduce(0.0) { $0 + Double($1) } * 0.5 / Double(max(tokens, 1)) }
  }

  /// The sensitivities that other texts of the same kind might have given: each text counts as often as it is drawn, with
  /// replacement.
  func resampledSensitivities(seed: UInt64) -> [String: Double] {
    var random = RandomSource(seed: seed, stream: 0xB007)
    let count = changes.values.first?.count ?? 0
    var weights = [Double](repeating: 0, count: count)
    for _ in 0..<count { weights[random.next(below: count)] += 1 }
    return changes.mapValues { changes in
      zip(changes, weights).reduce(0.0) { $0 + Double($1.0) * $1.1 } * 0.5 / Double(max(tokens, 1))
    }
  }

  /// Of the inputs of a module.
  func statistics(layer: Int, _ module: TargetModule) -> InputStatistics? {
    inputs[Group(layer: layer, module: Self.firstReader(module))]
  }

  /// Whether the inputs of these blocks have their correlations.
  public func hasCorrelations(of blocks: Range<Int>) -> Bool {
    blocks.allSatisfy { statistics(layer: $0, .query)?.correlations.isEmpty == false }
  }

  /// With the statistics of inputs that another reading of the same text has collected.
  public func addingCorrelations(of other: Calibration) -> Calibration {
    var sum = self
    sum.inputs.merge(other.inputs) { $1 }
    return sum
  }

  /// The first of the modules that read what this one reads.
  static func firstReader(_ module: TargetModule) -> TargetModule {
    switch module {
    case .query, .key, .value: .query
    case .gate, .up: .gate
    case .output, .down: module
    }
  }
}
