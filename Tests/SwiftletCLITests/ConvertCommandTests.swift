import Foundation
import JSONValues
import TestSupport
import Testing

/// `swiftlet convert` as a user runs it.
@Suite(.enabled(if: swiftletPath != nil, "the program was not built beside the tests"))
struct ConvertCommandTests {
  private static let phi3: JSONObject = [
    "architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "tie_word_embeddings": false,
  ]

  @Test func convertsAndSaysWhat() throws {
    let folder = try TemporaryFolder()
    try TinyModel(changing: Self.phi3).write(to: folder)
    let output = folder.path + "/llama"
    let result = try swiftlet(["convert", folder.path, "--to", "llama", "--output", output, "--json"])
    #expect(result.status == 0 && result.errors.isEmpty)
    let json = try JSONValue.parse(result.output)
    #expect(json["architecture"] == "LlamaForCausalLM" && json["files"] == ["model.safetensors"])
    let back = try swiftlet(["convert", output, "--to", "phi3", "-o", folder.path + "/back"])
    #expect(back.status == 0 && back.output.isEmpty && back.errors.contains("Phi3ForCausalLM"))
  }

  @Test func mistakesAreOneLine() throws {
    let folder = try TemporaryFolder()
    try TinyModel(changing: Self.phi3).write(to: folder)
    func message(_ words: [String]) throws -> String? {
      let result = try swiftlet(["convert", folder.path] + words)
      #expect(result.status == 2)
      return result.message
    }
    #expect(try message(["--output", "x"]) == "--to is missing; name llama or phi3")
    #expect(try message(["--to", "llama"]) == "--output is missing; name a folder")
    #expect(try message(["--to", "gemma", "-o", "x"])?.contains("one of llama, phi3") == true)
    #expect(
      try message(["--to", "llama", "-o", folder.path])?.hasSuffix("the folder is not empty; choose another --output")
        == true)
  }
}
