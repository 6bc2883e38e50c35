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

/// What GPTQ's recursion needs of the inputs' correlations.
struct Compensation: Sendable {
  /// Added to the diagonal: 1% of its mean.
  let damping: Double
  /// Columns, those with the largest inputs first.
  let order: [Int32]
  /// The triangle of the inverse.
  let factor: [Float]

  /// nil where there are no correlations, or nothing was ever read.
  init?(_ statistics: InputStatistics) throws {
    let width = statistics.moments.count
    guard statistics.correlations.count == width * width, width > 0 else { return nil }
    let diagonal = (0..<width).map { statistics.correlations[$0 * width + $0] }
    let mean = diagonal.reduce(0.0) { $0 + Double($1) } / Double(width)
    guard mean > 0, mean.isFinite else { return nil }
    let damping = 0.01 * mean
    let order = diagonal.indices.sorted { (diagonal[$1], $0) < (diagonal[$0], $1) }.map { Int32($0) }
    var factor = [Float](repeating: 0, count: width * width)
    switch sl_inverse_factor(Int64(width), statistics.correlations, order, damping, &factor) {
    case 0: break
    case -1: throw ModelFileError("", "there is no memory to compensate errors; take --rounding searched")
    default: return nil
    }
    self.damping = damping
    self.order = order
    self.factor = factor
  }
}
