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

  /// A limit on the size of files stands for a disk that fills: the error of the system is another, its way the same.
  @Test func aDiskThatFillsLeavesNothing() throws {
    let folder = try TemporaryFolder()
    try TinyModel(changing: Self.phi3, seed: 1).write(to: folder)
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/sh")
    // The limit counts blocks of 512 or 1024 bytes; the weights take about 30 KB.
    process.arguments = [
      "-c", "trap '' XFSZ; ulimit -f 4; exec \"$0\" convert \"$1\" --to llama --output \"$1/out\"",
      try #require(swiftletPath), folder.path,
    ]
    let errors = Pipe()
    process.standardError = errors
    try process.run()
    let text = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    #expect(process.terminationStatus == 1)
    #expect(text.contains("cannot write: the file would be larger") && text.filter(\.isNewline).count == 1, "\(text)")
    let names = try FileManager.default.contentsOfDirectory(atPath: folder.path)
    #expect(names.sorted() == ["config.json", "model.safetensors"])
  }
}
