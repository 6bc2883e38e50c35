import Foundation
import JSONValues
import TestSupport
import Testing

/// `swiftlet export --format gguf` as a user runs it.
@Suite(.enabled(if: swiftletPath != nil, "the program was not built beside the tests"))
struct ExportGGUFCommandTests {
  private static let sizes: JSONObject = ["vocab_size": 272, "eos_token_id": 2, "bos_token_id": 0]

  private func model() throws -> TemporaryFolder {
    let folder = try TemporaryFolder()
    try TinyModel(changing: Self.sizes).write(to: folder)
    try TinyTokenizer.write(to: folder)
    return folder
  }

  private func names(_ folder: String) throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
  }

  @Test func writesAGGUFAndAModelfile() throws {
    let (home, folder) = (try model(), try TemporaryFolder())
    let output = folder.path + "/tiny.gguf"
    let result = try swiftlet(["export", home.path, "--format", "gguf", "--type", "f32", "--output", output])
    #expect(result.status == 0 && result.output.isEmpty, "\(result.errors)")
    #expect(result.errors.contains("wrote \(output): llama"))
    #expect(try names(folder.path) == ["Modelfile", "tiny.gguf"])
    let modelfile = try #require(TemporaryFolder.text(of: folder.path + "/Modelfile"))
    #expect(modelfile.contains("\nFROM ./tiny.gguf\nTEMPLATE \"\"\"{{ range"))
    #expect(modelfile.hasSuffix("PARAMETER stop \"<|im_end|>\"\n"))
    // It is a model: the same text, the same numbers.
    let words = ["--text", "hello 12 world<|im_end|>", "--json"]
    #expect(try swiftlet(["tokenize", output] + words).output == swiftlet(["tokenize", home.path] + words).output)
    let text = try home.write("text", String(repeating: "hello world 12. ", count: 40))
    let eval = ["--perplexity", text, "--window", "64", "--json", "--compute", "fp32"]
    #expect(try swiftlet(["eval", output] + eval).output == swiftlet(["eval", home.path] + eval).output)
    // Into a folder, under a name of its own, beside a Modelfile of ours.
    let again = try swiftlet(["export", output, "--format", "gguf", "--type", "q8_0", "-o", folder.path])
    #expect(again.status == 0, "\(again.errors)")
    #expect(try names(folder.path) == ["Modelfile", "tiny-q8_0.gguf", "tiny.gguf"])
  }

  @Test func dynamicChoosesTypes() throws {
    let folder = try TemporaryFolder()
    try TinyModel(
      changing: Self.sizes.merged(["hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 3])
    ).write(to: folder)
    try TinyTokenizer.write(to: folder)
    let text = try folder.write("text", String(repeating: "hello world 12 and so on. ", count: 400))
    func export(_ name: String, _ words: [String]) throws -> Int {
      let path = folder.path + "/" + name
      let result = try swiftlet(
        ["export", folder.path, "--format", "gguf", "--type", "q4_0", "--output", path] + words)
      #expect(result.status == 0, "\(result.errors)")
      if words.contains("--dynamic") { #expect(result.errors.contains("q4_0 alone is predicted to have a KL of")) }
      return try #require(FileManager.default.attributesOfItem(atPath: path)[.size] as? Int)
    }
    let plain = try export("plain.gguf", [])
    let calibrated = ["--dynamic", "--calibration", text, "--measurements", folder.path + "/measured"]
    #expect(try export("a.gguf", calibrated) <= plain + 64)
    let larger = try export("b.gguf", ["--dynamic", "--measurements", folder.path + "/measured", "--budget", "30"])
    #expect(larger > plain && Double(larger) < 1.3 * Double(plain) + 64)
    func message(_ words: [String]) throws -> String {
      let result = try swiftlet(["export", folder.path, "--output", folder.path + "/c/x.gguf"] + words)
      #expect(result.status == 2, "\(words) \(result.errors)")
      #expect(!FileManager.default.fileExists(atPath: folder.path + "/c"))
      return result.errors.split(separator: "\n").last.map(String.init) ?? ""
    }
    #expect(try message(["--dynamic"]).hasSuffix("--dynamic goes with --format gguf"))
    #expect(try message(["--budget", "5", "--format", "gguf"]).hasSuffix("--budget goes with --dynamic"))
    let gguf = ["--format", "gguf", "--dynamic"]
    #expect(try message(gguf).contains("--dynamic needs a type of fewer than 16 bits"))
    #expect(try message(gguf + ["--type", "q4_0"]).contains("--calibration is missing"))
    #expect(
      try message(gguf + ["--type", "q4_0", "--budget", "900", "--measurements", folder.path + "/measured"])
        .contains("there is nothing to choose"))
  }

  @Test func mistakesAreOneLine() throws {
    let (home, folder) = (try model(), try TemporaryFolder())
    func message(_ words: [String]) throws -> String {
      let result = try swiftlet(["export", home.path, "--format", "gguf"] + words)
      #expect(result.status == 2, "\(words)")
      return result.message ?? "no single line: \(result.errors)"
    }
    let output = folder.path + "/x.gguf"
    #expect(
      try message(["--type", "q3", "-o", output]).contains(
        "\"q3\" is not one of f32, f16, bf16, q8_0, q6_k, q5_k_m, q4_k_m, q4_0"))
    #expect(try message([]).hasPrefix("--output is missing"))
    #expect(try message(["-o", output, "--adapter", folder.path + "/none"]).contains("none: neither an adapter"))
    _ = try folder.write("x.gguf", "mine")
    #expect(try message(["-o", output]) == "\(output): this exists already; choose another --output")
    unlink(output)
    _ = try folder.write("Modelfile", "FROM mine")
    #expect(
      try message(["-o", output])
        == "\(folder.path)/Modelfile: this exists already and is not swiftlet's; choose another --output")
    #expect(
      try names(folder.path) == ["Modelfile"] && TemporaryFolder.text(of: folder.path + "/Modelfile") == "FROM mine")
    unlink(folder.path + "/Modelfile")
    try TinyTokenizer.write(
      TinyTokenizer.byteLevel([TinyTokenizer.split("[a-z]+"), TinyTokenizer.smollm[1]]), to: home)
    #expect(
      try message(["-o", output]).hasSuffix(
        "texts are cut by a pattern of its own; llama.cpp has no such tokenizer, so there can be no GGUF"))
    #expect(try names(folder.path).isEmpty)
  }

  /// A limit on the size of files stands for a disk that fills: the error of the system is another, its way the same.
  @Test func aDiskThatFillsLeavesNothing() throws {
    let (home, folder) = (try model(), try TemporaryFolder())
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/sh")
    process.arguments = [
      "-c", "trap '' XFSZ; ulimit -f 20; exec \"$0\" export \"$1\" --format gguf --type f32 --output \"$2/x.gguf\"",
      try #require(swiftletPath), home.path, folder.path,
    ]
    let errors = Pipe()
    process.standardError = errors
    try process.run()
    let text = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    #expect(process.terminationStatus == 1)
    #expect(text.contains("x.gguf: cannot write: the file would be larger"), "\(text)")
    #expect(try names(folder.path).isEmpty)
  }
}
