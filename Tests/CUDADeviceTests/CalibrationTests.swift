import CPUDevice
import CUDAEmulator
import JSONValues
import ModelFiles
import Models
import Tensors
import TestSupport
import Testing

@testable import CUDADevice
@testable import Quantization

extension EmulatedDeviceTests {
  /// What calibration sums up on a GPU is what it sums up in host memory.
  @Suite struct CalibrationTests {
    static let config: JSONObject = [
      "num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 2,
      "num_key_value_heads": 1, "head_dim": 32, "tie_word_embeddings": false,
    ]

    @Test func sumsAreThoseOfTheHost() throws {
      let folder = try TemporaryFolder()
      try TinyModel(changing: Self.config, seed: 5).write(to: folder)
      let kernels = try TemporaryFolder()
      let checkpoint = try Checkpoint.open(path: folder.path)
      let device = try CUDADevice(CUDALibraries { _ in EmulatorSymbols() }, kernelFolder: kernels.path)
      var random = SeededRandom(seed: 6)
      let tokens = (0..<2 * Calibrator.window).map { _ in Int32.random(in: 0..<24, using: &random) }
      let expected = try Calibrator(LanguageModel(checkpoint, on: CPUDevice(compute: .float32)), checkpoint)
        .read(tokens, correlated: 0..<2)
      let found = try Calibrator(LanguageModel(checkpoint, on: device), checkpoint).read(tokens, correlated: 0..<2)
      #expect(found.tokens == expected.tokens && found.changes.count == 14)
      // Tokens are drawn from logits, whose rounding lets a few others through, and sums of gradients walk at random.
      for (path, changes) in expected.changes {
        let others = try #require(found.changes[path])
        let ratio = others.reduce(0, +) / changes.reduce(0, +)
        #expect(others.count == changes.count && ratio > 0.1 && ratio < 10, "\(path): \(others), not \(changes)")
      }
      for (group, statistics) in expected.inputs {
        let others = try #require(found.inputs[group])
        #expect(distance(others.moments, statistics.moments) < 0.05, "\(group)")
        #expect(
          others.correlations.count == statistics.correlations.count
            && distance(others.correlations, statistics.correlations) < 0.05, "\(group)")
      }
    }

    @Test func changesAreThoseOfTheHost() throws {
      let folder = try TemporaryFolder()
      // In bf16, as the device has them: near a border between codes a rounding decides.
      try TinyModel(changing: Self.config, seed: 5).write(to: folder) { _, values in
        for index in values.indices { values[index] = Float(bitPattern: values[index].bitPattern & 0xffff_0000) }
      }
      let kernels = try TemporaryFolder()
      let checkpoint = try Checkpoint.open(path: folder.path)
      let device = try CUDADevice(CUDALibraries { _ in EmulatorSymbols() }, kernelFolder: kernels.path)
      let model = try LanguageModel(checkpoint, on: device)
      let host = CPUDevice(compute: .float32)
      var random = SeededRandom(seed: 8)
      for module in TargetModule.allCases {
        let matrix = model.matrix(of: module, layer: 1)
        let x = (0..<21 * matrix.inputs).map { _ in Float.random(in: -1...1, using: &random) }
        let gradient = (0..<21 * matrix.outputs).map { _ in Float.random(in: -1...1, using: &random) }
        func operand(_ values: [Float], _ columns: Int) throws -> Tensor {
          let tensor = Tensor(
            try device.allocate(byteCount: values.count * 2), rows: 21, columns: columns, dtype: .bfloat16)
          try device.copy(device.tensor(values, rows: 21, columns: columns), to: tensor)
          return tensor
        }
        let found = try DeviceSums(on: device).changes(
          operand(x, matrix.inputs), matrix, operand(gradient, matrix.outputs))
        let error = try CalibrationSums.error(
          of: checkpoint.tensor(module.path(layer: 1) + ".weight"), as: .float32, on: host)
        let change = try CalibrationSums.product(
          host.tensor(x, rows: 21, columns: matrix.inputs), error, on: host)
        var expected = [Float](repeating: 0, count: 21)
        CalibrationSums.rowDots(
          change, try host.tensor(gradient, rows: 21, columns: matrix.outputs), into: &expected)
        // What a code stands for is rounded to bf16 here, as products read it.
        #expect(distance(found, expected) < 0.05, "\(module): \(found), not \(expected)")
      }
    }

    /// ‖a − b‖ / ‖b‖.
    private func distance(_ a: [Float], _ b: [Float]) -> Float {
      let difference = zip(a, b).reduce(Float(0)) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
      return (difference / b.reduce(0) { $0 + $1 * $1 }).squareRoot()
    }
  }
}
