import Foundation
import JSONValues
import TestSupport
import Testing

/// `swiftlet quantize` as a user runs it.
@Suite(.enabled(if: swiftletPath != nil, "the program was not built beside the tests"))
struct QuantizeCommandTests {
  private static let wide: JSONObject = ["hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2]

  @Test func quantizesAndSaysWhat() throws {
    let folder = try TemporaryFolder()
    try TinyModel(changing: Self.wide).write(to: folder)
    let output = folder.path + "/nf4"
    let result = try swiftlet(["quantize", folder.path, "--method", "nf4", "--output", output, "--json"])
    #expect(result.status == 0 && result.errors.isEmpty)
    let json = try JSONValue.parse(result.output)
    #expect(json["quantized"] == 14 && json["kept"] == [] && json["files"] == ["model.safetensors"])
    let size = try FileManager.default.attributesOfItem(atPath: output + "/model.safetensors")[.size] as? Int
    let bytes = try #require(json["bytes"]?.integer)
    #expect(try #require(size) - bytes < 20_000 && bytes < 200_000)
    let again = try swiftlet(["quantize", output, "--method", "nf4", "--output", folder.path + "/again"])
    #expect(again.status == 2 && again.message?.contains("this model is quantized already") == true)
    #expect(!FileManager.default.fileExists(atPath: folder.path + "/again"))
  }

  @Test func mistakesAreOneLine() throws {
    let folder = try TemporaryFolder()
    try TinyModel(changing: Self.wide).write(to: folder)
    func message(_ words: [String]) throws -> String? {
      let result = try swiftlet(["quantize", folder.path] + words)
      #expect(result.status == 2)
      return result.message
    }
    #expect(try message(["--output", "x"])?.hasPrefix("--method is missing") == true)
    #expect(try message(["--method", "nf4"]) == "--output is missing; name a folder")
    #expect(try message(["--method", "nf4", "--budget", "5", "-o", "x"]) == "--budget goes with --method dynamic")
    #expect(try message(["--method", "nf4", "--like", "unsloth", "-o", "x"]) == "--like goes with --method dynamic")
    #expect(try message(["--method", "dynamic", "--budget", "-1", "-o", "x", "--choose-by", "random"]) != nil)
    #expect(
      try message(["--method", "dynamic", "--like", "unsloth", "-o", folder.path + "/x"])?.contains("Phi-4's 40 layers")
        == true)
    #expect(
      try message(["--method", "nf4", "--rounding", "compensated", "-o", "x"])?.hasPrefix("--calibration is missing")
        == true)
    #expect(try message(["--method", "int3", "-o", "x"])?.contains("nf4") == true)
    #expect(
      try message(["--method", "nf4", "-o", folder.path])?.hasSuffix("the folder is not empty; choose another --output")
        == true)
    try Data().write(to: URL(fileURLWithPath: folder.path + "/model.safetensors"))
    #expect(try message(["--method", "nf4", "-o", folder.path + "/x"])?.contains("no safetensors file") == true)
  }

  /// A model of words and text that it reads.
  private func model() throws -> (folder: TemporaryFolder, text: String) {
    let folder = try TemporaryFolder()
    try TinyModel(changing: Self.wide.merged(["vocab_size": 272, "eos_token_id": 2, "bos_token_id": 0])).write(
      to: folder)
    try TinyTokenizer.write(to: folder)
    var random = SeededRandom(seed: 4)
    let words = (0..<6000).map { _ in ["hello", "world", "12", "red", "blue"].randomElement(using: &random) ?? "" }
    return (folder, try folder.write("text", words.joined(separator: " ")))
  }

  @Test func measurementsServeOtherBudgets() throws {
    let (folder, text) = try model()
    func quantize(_ name: String, _ words: [String]) throws -> JSONValue {
      let result = try swiftlet(
        [
          "quantize", folder.path, "--method", "dynamic", "--output", folder.path + "/" + name, "--json",
          "--calibration-tokens", "2048",
        ] + words)
      #expect(result.status == 0, "\(result.errors)")
      #expect(result.errors.contains("of memory beside the model"))
      return try JSONValue.parse(result.output)
    }
    let measured = ["--measurements", folder.path + "/measured"]
    let first = try quantize("a", ["--calibration", text, "--budget", "30"] + measured)
    #expect(try #require(first["finalists"]?.array).count > 1)
    // The same choice without the text, where no finalists are compared; and more of it where there is more room.
    let alone = try quantize("b", ["--calibration", text, "--budget", "30", "--finalists", "1"])
    let again = try quantize("c", ["--budget", "30"] + measured)
    #expect(again["kept"] == alone["kept"] && again["finalists"] == nil)
    let more = try quantize("d", ["--budget", "60"] + measured)
    let (least, most) = (try #require(again["bytes"]?.integer), try #require(more["bytes"]?.integer))
    let plain = try #require(more["nf4_bytes"]?.integer)
    #expect(most > least && Double(most) <= 1.6 * Double(plain))
    // Correlations are not kept; a little memory reads the text more often.
    let refused = try swiftlet(
      ["quantize", folder.path, "--method", "nf4", "--rounding", "compensated", "-o", folder.path + "/e"] + measured)
    #expect(refused.status == 2 && refused.errors.contains("reads the text beside the measurements"))
    let small = try swiftlet(
      [
        "quantize", folder.path, "--method", "nf4", "--rounding", "compensated", "-o", folder.path + "/f",
        "--calibration",
        text, "--memory", "20KB",
      ])
    #expect(small.status == 2 && small.errors.hasSuffix("take --rounding searched\n"), "\(small.errors)")
    #expect(!FileManager.default.fileExists(atPath: folder.path + "/e"))
    #expect(!FileManager.default.fileExists(atPath: folder.path + "/f"))
  }

  /// What cannot be quantized, or with what it cannot: words, and nothing left behind.
  @Test func badInputsAreToldAndLeaveNothing() throws {
    let (folder, text) = try model()
    func message(_ words: [String], of model: String? = nil) throws -> String {
      let result = try swiftlet(
        ["quantize", model ?? folder.path, "--method", "dynamic", "--output", folder.path + "/out"] + words)
      #expect(result.status == 2, "\(words) \(result.errors)")
      #expect(!FileManager.default.fileExists(atPath: folder.path + "/out"))
      return result.errors.split(separator: "\n").last.map(String.init) ?? ""
    }
    // Budgets.
    let calibration = ["--calibration", text]
    #expect(try message(["--budget", "0"] + calibration).contains("--budget must be above 0 per cent"))
    #expect(try message(["--budget", "0.01"] + calibration).contains("keeps nothing: the smallest layer takes"))
    #expect(try message(["--budget", "900"] + calibration).contains("keeps every layer in 16 bits"))
    // Text.
    #expect(
      try message(["--calibration", folder.write("empty", "")]).contains("is empty; there is nothing to calibrate"))
    #expect(try message(["--calibration", folder.write("blank", " \n\n")]).contains("is empty"))
    #expect(try message(["--calibration", folder.write("short", "hello world")]).contains("tokens; at least 1024"))
    let greek = String(repeating: "Ὁ βίος βραχύς, ἡ δὲ τέχνη μακρή. ", count: 200)
    #expect(
      try message(["--calibration", folder.write("greek", greek)]).contains("this tokenizer does not know its language")
    )
    #expect(try message(["--calibration", folder.write("bytes", [0xFF, 0xFE, 0x00])]).contains("is not UTF-8 text"))
    #expect(try message(["--calibration", folder.path + "/none"]).contains("cannot be opened"))
    // Models.
    let quantized = folder.path + "/nf4"
    #expect(try swiftlet(["quantize", folder.path, "--method", "nf4", "--output", quantized]).status == 0)
    #expect(try message(calibration, of: quantized).contains("this model is quantized already"))
    let weights = folder.path + "/model.safetensors"
    let whole = try Data(contentsOf: URL(fileURLWithPath: weights))
    try whole.dropLast(1000).write(to: URL(fileURLWithPath: weights))
    #expect(try message(calibration).contains("truncated"))
    var spoilt = whole
    spoilt.replaceSubrange(spoilt.count - 4096..<spoilt.count, with: [UInt8](repeating: 0xFF, count: 4096))
    try spoilt.write(to: URL(fileURLWithPath: weights))
    #expect(try message(calibration).contains("finite"))
    unlink(folder.path + "/config.json")
    #expect(try message(calibration).contains("config.json"))
  }
}
