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
}
