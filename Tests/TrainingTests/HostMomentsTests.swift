import CPUDevice
import ModelFiles
import Models
import Tensors
import TestSupport
import Testing

@testable import Training

/// Moments that lie in the host's memory are those that lie on the device.
@Suite final class HostMomentsTests: TinyRuns {
  /// An adapter, and the step that an optimizer makes of gradients that depend on nothing but the step's number.
  private func run(
    _ options: Optimizer.Options, pieceLength: Int?, steps: Range<Int>,
    from saved: (values: [Float], path: String)? = nil,
    savingTo path: String? = nil
  ) throws -> [Float] {
    let model = try model([.forward, .backward])
    let adapter = try model.makeAdapter(LoRAConfiguration(rank: 16, alpha: 16, useDoRA: true), training: true)
    try adapter.initialize(seed: 5)
    if let saved { try adapter.set(saved.values) }
    model.attach(adapter)
    let optimizer = try Optimizer(adapter, on: model.device, options: options, hostPieceLength: pieceLength)
    if let saved { try optimizer.restore(from: saved.path, step: steps.lowerBound) }
    let gradients = try #require(adapter.gradients)
    for step in steps {
      var random = SeededRandom(seed: UInt64(step))
      let values = (0..<gradients.columns).map { _ in Float.random(in: -1...1, using: &random) }
      try values.withUnsafeBytes { try model.device.upload($0, to: gradients) }
      try optimizer.apply(learningRate: 0.01, gradientNorm: 1)
    }
    if let path { try StateTensors.write(optimizer.state(), to: path) }
    return try adapter.values()
  }

  @Test(arguments: [false, true]) func placeChangesNothing(isQuantized: Bool) throws {
    let options = Optimizer.Options(loraPlusRatio: 4, isQuantized: isQuantized)
    let right = try run(options, pieceLength: nil, steps: 0..<5, savingTo: folder.path + "/device")
    #expect(right.allSatisfy { $0.isFinite })
    let whole = try StateFile(folder.path + "/device")
    // One piece, several that are not whole in the end, and as many as there are blocks.
    for length in [1 << 20, 1024, 256] {
      let path = folder.path + "/host\(length)"
      #expect(try run(options, pieceLength: length, steps: 0..<5, savingTo: path) == right)
      #expect(try StateFile(path) == whole)
    }
    // A run that stops and goes on with its moments elsewhere.
    for (first, second) in [(nil, 256), (256, nil), (1024, 256)] as [(Int?, Int?)] {
      let path = folder.path + "/middle"
      let middle = try run(options, pieceLength: first, steps: 0..<2, savingTo: path)
      #expect(try run(options, pieceLength: second, steps: 2..<5, from: (middle, path)) == right)
    }
  }

  /// A state's bytes, by name.
  private struct StateFile: Equatable {
    var tensors: [String: [UInt8]] = [:]

    init(_ path: String) throws {
      for tensor in try SafetensorsFile(path: path).tensors {
        tensors[tensor.name] = tensor.bytes.map { [UInt8]($0) } ?? []
      }
    }
  }
}
