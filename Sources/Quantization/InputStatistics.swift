import CBlockFormats
import ModelFiles

/// What the linear layers that read one input have read, weighted by how much their outputs matter.
///
/// The weight of a token is the squared norm of the gradient of what the layers wrote for it: an error there costs its
/// square times that.
public struct InputStatistics: Sendable {
  /// Σ over tokens of weight · x², for each input.
  public internal(set) var moments: [Float]
  /// Σ over tokens of weight · x xᵀ, `[inputs, inputs]`; empty where it was not asked for.
  public internal(set) var correlations: [Float]

  init(inputs: Int, correlates: Bool) {
    moments = [Float](repeating: 0, count: inputs)
    correlations = correlates ? [Float](repeating: 0, count: inputs * inputs) : []
  }

  /// What errors, rows of a matrix, cost.
  func loss(_ errors: [Float], _ compensation: Compensation?) -> Double {
    let width = moments.count
    if let compensation {
      return sl_quadratic_error(
        Int64(errors.count / width), Int64(width), errors, correlations, compensation.damping)
    }
    var total = 0.0
    for row in stride(from: 0, to: errors.count, by: width) {
      for column in 0..<width {
        let error = errors[row + column]
        total += Double(moments[column] * error * error)
      }
    }
    return total
  }
}
