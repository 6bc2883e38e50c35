import JSONValues
import ModelFiles
import TestSupport
import Testing

@testable import Export

/// W + Σ scale · B · A, by ranges of rows.
@Suite struct MergedTensorsTests {
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  /// One matrix of a random adapter.
  private struct Drawn {
    var rows: Int, columns: Int
    var values: [Float]

    init(_ rows: Int, _ columns: Int, _ random: inout SystemRandomNumberGenerator) {
      (self.rows, self.columns) = (rows, columns)
      values = (0..<rows * columns).map { _ in Float.random(in: -1...1, using: &random) }
    }
  }

  /// Writes an adapter of random values and gives back B · A of each matrix by its path.
  private func adapter(
    _ name: String, _ matrices: [(path: String, outputs: Int, inputs: Int)], rank: Int, alpha: Double
  ) throws -> [String: [Double]] {
    var random = SystemRandomNumberGenerator()
    var drawn: [(String, Drawn)] = []
    var products: [String: [Double]] = [:]
    for (path, outputs, inputs) in matrices {
      let (a, b) = (Drawn(rank, inputs, &random), Drawn(outputs, rank, &random))
      drawn += [("base_model.model.\(path).lora_A.weight", a), ("base_model.model.\(path).lora_B.weight", b)]
      products[path] = (0..<outputs * inputs).map { index in
        (0..<rank).reduce(0.0) {
          $0 + Double(b.values[index / inputs * rank + $1]) * Double(a.values[$1 * inputs + index % inputs])
        } * alpha / Double(rank)
      }
    }
    let flat = drawn.flatMap(\.1.values)
    try flat.withUnsafeBufferPointer { flat in
      var start = 0
      let tensors = drawn.map { name, matrix in
        defer { start += matrix.values.count }
        return (
          name: name, shape: [matrix.rows, matrix.columns],
          values: UnsafeBufferPointer(rebasing: flat[start..<start + matrix.values.count])
        )
      }
      try AdapterFile.save(
        to: "\(folder.path)/\(name)", configuration: AdapterConfiguration(rank: rank, alpha: alpha, targetModules: []),
        tensors: tensors)
    }
    return products
  }

  private func values(_ tensor: MergedTensor) throws -> [Float] {
    var values: [Float] = []
    try tensor.forEachPiece { rows, piece in
      #expect(rows.lowerBound * tensor.rowLength == values.count && piece.count == rows.count * tensor.rowLength)
      values += piece
    }
    return values
  }

  @Test(arguments: [Conversion.Layout.llama, .phi3])
  func adaptersOfBothLayoutsAreAdded(layout: Conversion.Layout) throws {
    let home = try TemporaryFolder()
    let tiny = TinyModel(changing: ConversionTests.phi3)
    try tiny.write(to: home)
    let checkpoint = try Checkpoint.open(path: home.path)
    // One adapter on Phi-3's own matrices, one on the parts.
    let (qkv, q, up) = (
      "model.layers.1.self_attn.qkv_proj", "model.layers.1.self_attn.q_proj", "model.layers.1.mlp.up_proj"
    )
    let fused = try adapter("fused", [(qkv, 32, 16)], rank: 3, alpha: 6)
    let apart = try adapter("apart", [(q, 16, 16), (up, 24, 16)], rank: 2, alpha: 1)
    let files = try ["fused", "apart"].map {
      try AdapterFile.load(folder: "\(folder.path)/\($0)", for: checkpoint.configuration)
    }
    let plain = try MergedTensors(checkpoint, layout: layout)
    let merged = try MergedTensors(checkpoint, adapters: files, layout: layout)
    #expect(plain.tensors.map(\.name) == merged.tensors.map(\.name))
    #expect(plain.tensors.contains { $0.name == qkv + ".weight" } == (layout == .phi3))
    var adapted = 0
    for (before, after) in zip(plain.tensors, merged.tensors) {
      let (w, found) = (try values(before), try values(after))
      #expect(w.count == before.shape.reduce(1, *) && found.count == w.count && !before.isAdapted)
      var expected = w.map(Double.init)
      // Rows of the tensor where each adapter's matrix begins.
      let places: [(String, [Double]?, Int)] =
        switch (after.name, layout) {
        case (qkv + ".weight", .phi3): [(qkv, fused[qkv], 0), (q, apart[q], 0)]
        case (q + ".weight", _): [(qkv, fused[qkv].map { Array($0[..<256]) }, 0), (q, apart[q], 0)]
        case ("model.layers.1.self_attn.k_proj.weight", _): [(qkv, fused[qkv].map { Array($0[256..<384]) }, 0)]
        case ("model.layers.1.self_attn.v_proj.weight", _): [(qkv, fused[qkv].map { Array($0[384...]) }, 0)]
        case (up + ".weight", _): [(up, apart[up], 0)]
        case ("model.layers.1.mlp.gate_up_proj.weight", _): [(up, apart[up], 24)]
        default: []
        }
      #expect(after.isAdapted == !places.isEmpty)
      adapted += places.isEmpty ? 0 : 1
      for (_, product, row) in places {
        for (index, value) in try #require(product).enumerated() { expected[row * 16 + index] += value }
      }
      for (value, wanted) in zip(found, expected) { #expect(abs(Double(value) - wanted) < 2e-6) }
      // Any range of rows, across the borders of parts.
      let reader = after.makeReader()
      for _ in 0..<8 {
        let first = Int.random(in: 0..<after.rowCount)
        let rows = first..<Int.random(in: first...after.rowCount)
        let some = try [Float](unsafeUninitializedCapacity: rows.count * after.rowLength) { buffer, count in
          if let base = buffer.baseAddress { try reader.decode(rows: rows, into: base) }
          count = rows.count * after.rowLength
        }
        #expect(some == Array(found[rows.lowerBound * after.rowLength..<rows.upperBound * after.rowLength]))
      }
    }
    #expect(adapted == (layout == .phi3 ? 2 : 4))
  }

  /// Each in its turn: W ← m / ‖W + sBA‖ ∘ (W + sBA), in double.
  @Test func adaptersWithMagnitudesAreAddedToOthers() throws {
    let home = try TemporaryFolder()
    let name = "model.layers.1.mlp.up_proj"
    // A row of zeros keeps none of a length.
    try TinyModel().write(to: home) { if $0 == name + ".weight" { for index in 16..<32 { $1[index] = 0 } } }
    let checkpoint = try Checkpoint.open(path: home.path)
    var adapters = (1...3).map {
      TinyAdapter([(path: name, outputs: 24, inputs: 16)], rank: $0, alpha: 3, seed: UInt64.random(in: 1...1 << 40))
    }
    for index in 1...2 {
      adapters[index].addMagnitudes(0.1...3, seed: UInt64.random(in: 1...1 << 40))
      adapters[index].pairs[0].b.replaceSubrange(index + 1..<2 * index + 2, with: repeatElement(0, count: index + 1))
    }
    for (index, adapter) in adapters.enumerated() { try adapter.write(to: folder, "\(index)") }
    let files = try adapters.indices.map {
      try AdapterFile.load(folder: "\(folder.path)/\($0)", for: checkpoint.configuration)
    }
    let w = try checkpoint.tensor(name + ".weight").decoded().map(Double.init)
    for chosen in [[0, 1, 2], [2, 0], [1], [1, 2]] {
      var expected = w
      for index in chosen {
        let change = try #require(adapters[index].product(name, scale: 3 / Double(adapters[index].rank)))
        for row in 0..<24 {
          let range = 16 * row..<16 * row + 16
          let sum = range.map { expected[$0] + change[$0] }
          let norm = sum.reduce(0) { $0 + $1 * $1 }.squareRoot()
          let factor = adapters[index].pairs[0].magnitudes.map { norm > 0 ? Double($0[row]) / norm : 0 } ?? 1
          for column in range { expected[column] = factor * sum[column - range.lowerBound] }
        }
      }
      let tensor = try #require(
        MergedTensors(checkpoint, adapters: chosen.map { files[$0] }).tensors.first { $0.name == name + ".weight" })
      for (found, wanted) in zip(try values(tensor), expected) { #expect(abs(Double(found) - wanted) < 1e-5) }
    }
  }

  @Test func whatDoesNotFitIsNamed() throws {
    let home = try TemporaryFolder()
    try TinyModel().write(to: home) { if $0 == "model.layers.0.mlp.up_proj.weight" { $1[7] = 3e38 } }
    let checkpoint = try Checkpoint.open(path: home.path)
    func message(_ outputs: Int, alpha: Double, for model: ModelConfiguration?) throws -> String {
      _ = try adapter("a", [("model.layers.0.mlp.up_proj", outputs, 16)], rank: 1, alpha: alpha)
      do {
        let file = try AdapterFile.load(folder: "\(folder.path)/a", for: model)
        let tensors = try MergedTensors(checkpoint, adapters: [file]).tensors
        for tensor in tensors { try tensor.forEachPiece { _, _ in } }
        return ""
      } catch { return "\(error)" }
    }
    #expect(
      try message(20, alpha: 1, for: nil).hasSuffix(
        "a: model.layers.0.mlp.up_proj is 24 by 16 in the model, the adapter is made for 20 by 16"))
    #expect(try message(20, alpha: 1, for: checkpoint.configuration).contains("the model asks for [24, 1]"))
    #expect(try message(24, alpha: 1, for: checkpoint.configuration).isEmpty)
    #expect(
      try message(24, alpha: 1e39, for: checkpoint.configuration).hasSuffix(
        "with the adapter added, tensor 'model.layers.0.mlp.up_proj.weight' leaves the range of fp32"))
  }
}
