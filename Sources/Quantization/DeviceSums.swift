import Models
import Tensors

/// The sums of calibration on a device that computes them itself.
final class DeviceSums {
  private let device: any CalibratingDevice
  private var moments: [Calibration.Group: Tensor] = [:]
  private var correlations: [Calibration.Group: Tensor] = [:]
  /// One buffer for each purpose, as large as was needed.
  private var rooms: [String: DeviceBuffer] = [:]

  init(on device: any CalibratingDevice) { self.device = device }

  /// Of each token, Σ g² of the gradients of what matrices wrote for it: fp32 `[1, rows]`, until the next call.
  func weights(_ gradients: [Tensor]) throws -> Tensor {
    let weights = try room("weights", rows: 1, columns: gradients[0].rows, .float32)
    try device.zero(weights)
    for gradient in gradients { try device.addRowDots(gradient, gradient, to: weights) }
    return weights
  }

  /// Adds the weighted squares of the columns of x, and their products where those are wanted.
  func add(_ x: Tensor, _ weights: Tensor, to group: Calibration.Group, correlates: Bool) throws {
    let sums = try moments[group] ?? zeros(rows: 1, columns: x.columns)
    moments[group] = sums
    try device.addColumnSums(of: x, times: x, rowScales: weights, to: sums)
    guard correlates else { return }
    let products = try correlations[group] ?? zeros(rows: x.columns, columns: x.columns)
    correlations[group] = products
    let weighted = try room("weighted", rows: x.rows, columns: x.columns, x.dtype)
    try device.scaleRows(x, by: weights, into: weighted)
    try device.addWeightGradient(weighted, x, to: products)
  }

  /// Of each token, g · x (NF4(W) − W)ᵀ.
  func changes(_ x: Tensor, _ matrix: any FrozenMatrix, _ gradient: Tensor) throws -> [Float] {
    let change = try room("change", rows: x.rows, columns: matrix.outputs, .float32)
    try device.nf4Change(x, of: matrix, into: change)
    let dots = try room("dots", rows: 1, columns: x.rows, .float32)
    try device.zero(dots)
    try device.addRowDots(change, gradient, to: dots)
    return try device.floats(dots)
  }

  /// Adds what was summed up to a calibration, and lets go of it.
  func add(to calibration: inout Calibration) throws {
    for (group, sums) in moments {
      var statistics = calibration.inputs[group] ?? InputStatistics(inputs: sums.columns, correlates: false)
      for (index, value) in try device.floats(sums).enumerated() { statistics.moments[index] += value }
      if let products = correlations.removeValue(forKey: group) {
        statistics.correlations = try device.floats(products)
      }
      calibration.inputs[group] = statistics
    }
    moments = [:]
  }

  private func zeros(rows: Int, columns: Int) throws -> Tensor {
    let tensor = Tensor(
      try device.allocate(byteCount: rows * columns * 4), rows: rows, columns: columns, dtype: .float32)
    try device.zero(tensor)
    return tensor
  }

  private func room(_ name: String, rows: Int, columns: Int, _ dtype: DType) throws -> Tensor {
    let bytes = rows * columns * dtype.byteCount
    if rooms[name].map({ $0.byteCount < bytes }) ?? true {
      rooms[name] = nil
      rooms[name] = try device.allocate(byteCount: bytes)
    }
    guard let buffer = rooms[name] else { throw DeviceError("no memory was given") }
    return Tensor(buffer, rows: rows, columns: columns, dtype: dtype)
  }
}
