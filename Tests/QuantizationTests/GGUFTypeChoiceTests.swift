import CPUDevice
import Export
import JSONValues
import ModelFiles
import Models
import TestSupport
import Testing

@testable import Quantization

@Suite struct GGUFTypeChoiceTests {
  /// Rows of 64 and of 256, of which alone K-types' blocks are made.
  private static let wide: JSONObject = [
    "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 3, "vocab_size": 272, "eos_token_id": 2,
    "bos_token_id": 0,
  ]

  private func model(_ changes: JSONObject = [:]) throws -> TemporaryFolder {
    let folder = try TemporaryFolder()
    try TinyModel(changing: Self.wide.merged(changes), seed: .random(in: 0...UInt64.max)).write(to: folder)
    try TinyTokenizer.write(to: folder)
    return folder
  }

  private func calibration(of folder: TemporaryFolder) throws -> Calibration {
    var random = SeededRandom(seed: 3)
    let tokens = (0..<4 * Calibrator.window).map { _ in Int32.random(in: 0..<200, using: &random) }
    let checkpoint = try Checkpoint.open(path: folder.path)
    return try Calibrator(LanguageModel(checkpoint, on: CPUDevice()), checkpoint).read(tokens)
  }

  @Test(arguments: [[:], ["architectures": ["Phi3ForCausalLM"], "model_type": "phi3"]] as [JSONObject])
  func bytesAreKeptAndLossesFall(_ architecture: JSONObject) throws {
    let folder = try model(architecture)
    let calibration = try calibration(of: folder)
    var choice = try GGUFTypeChoice(of: folder.path, type: .q4_0)
    try choice.measure(calibration)
    var before = choice.usual.predictedKL
    #expect(before > 0 && choice.chosen.predictedKL == before)
    for (place, percent) in [0.0, 5, 20, 60].enumerated() {
      try choice.choose(percent: percent)
      let chosen = choice.chosen
      #expect(Double(chosen.byteCount) <= Double(choice.usual.byteCount) * (1 + percent / 100))
      #expect(chosen.predictedKL <= before)
      if place > 1 { #expect(chosen.predictedKL < before) }
      before = chosen.predictedKL
      let path = "\(folder.path)/\(percent).gguf"
      let export = try GGUFExport(of: folder.path, type: .q4_0, formats: choice.formats)
      #expect(export.byteCount == chosen.byteCount)
      try export.write(to: path)
      let file = try GGUFFile(path: path)
      for (name, format) in choice.formats { #expect(file.tensor(name)?.format == format) }
      _ = try LanguageModel(Checkpoint.open(path: path), on: CPUDevice())
    }
    #expect(throws: QuantizationError.self) { try choice.choose(percent: -1) }
    #expect(throws: QuantizationError.self) { try choice.choose(percent: 900) }
  }

  @Test func theErrorOfATypeIsThatOfItsFile() throws {
    let folder = try model()
    let calibration = try calibration(of: folder)
    let checkpoint = try Checkpoint.open(path: folder.path)
    let name = "model.layers.1.mlp.down_proj"
    let tensor = try checkpoint.tensor(name + ".weight")
    let weights = try #require(calibration.statistics(layer: 1, .down)).moments
    let errors = try TypeErrors(StackedRows([tensor], name: name), [.q4_K, .q5_0, .float32], weights)
    #expect(errors[.float32] == 0 && errors.nf4 > 0)
    let values = try tensor.decoded()
    for format in [StorageFormat.q4_K, .q5_0] {
      let path = "\(folder.path)/\(format.name).gguf"
      try GGUFExport(of: folder.path, type: .f32, formats: ["blk.1.ffn_down.weight": format]).write(to: path)
      let stored = try #require(try GGUFFile(path: path).tensor("blk.1.ffn_down.weight")).decoded()
      let loss = values.indices.reduce(0.0) {
        let error = Double(values[$1] - stored[$1])
        return $0 + Double(weights[$1 % weights.count]) * error * error
      }
      let found = try #require(errors[format])
      #expect(abs(found / loss - 1) < 1e-4)
    }
  }
}
