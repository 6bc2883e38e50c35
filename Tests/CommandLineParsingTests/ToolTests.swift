import Testing

@testable import CommandLineParsing

private enum Format: String, CommandChoice { case adapter, merged }

private let model = Argument("MODEL", "A model.")
private let maxTokens = Option("max-tokens", "N", default: 256, in: 1...1000, "Tokens to generate at most.")
private let temperature = Option("temperature", aliases: ["t"], "X", default: 0.7, in: 0...100, "Randomness.")
private let seed = Option<UInt64?>("seed", "N", "Seed.")
private let data = Option(repeated: "data", "FILE", "Data.")
private let json = Option(flag: "json", "Print JSON.")
private let format = Option("format", "adapter|merged", default: Format.adapter, "What to write.")
private let packing = OptionDeclaration(
  name: "packing", aliases: ["sample-packing"], arity: .flag(negatable: true), help: "Pack.", group: "Data")

private let tool = Tool(
  name: "tool", version: "1.2", summary: "A tool.",
  commands: [
    Command(
      name: "generate", summary: "Generate text.", examples: ["model --max-tokens 5"],
      arguments: [model.declaration],
      options: [
        maxTokens.declaration, temperature.declaration, seed.declaration, data.declaration, json.declaration,
        format.declaration, packing,
      ]),
    Command(name: "info", summary: "Show the machine."),
  ])

private func arguments(_ words: String...) throws -> ParsedArguments {
  guard case .run("generate", let arguments) = try tool.parse(["generate"] + words) else {
    throw CommandLineError("asked for help")
  }
  return arguments
}

private func message(_ words: String...) -> String? {
  do {
    _ = try tool.parse(words)
    return nil
  } catch { return error.description }
}

@Suite struct ToolTests {
  @Test func valuesAndDefaults() throws {
    let given = try arguments("m.gguf", "--max-tokens", "5", "--temperature=0", "--json", "--format", "MERGED")
    #expect(given[model] == "m.gguf")
    #expect(given[maxTokens] == 5)
    #expect(given[temperature] == 0)
    #expect(given[json])
    #expect(given[format] == .merged)
    let plain = try arguments("m.gguf")
    #expect(plain[maxTokens] == 256)
    #expect(plain[seed] == nil)
    #expect(plain[data].isEmpty)
    #expect(!plain[json])
  }

  @Test func dashesUnderscoresAndAliases() throws {
    #expect(try arguments("m", "--max_tokens", "7")[maxTokens] == 7)
    #expect(try arguments("m", "-t", "0.5")[temperature] == 0.5)
    #expect(try arguments("m", "--t", "0.5")[temperature] == 0.5)
    #expect(try arguments("m", "--sample_packing").texts(of: "packing") == ["true"])
    #expect(try arguments("m", "--no-packing").texts(of: "packing") == ["false"])
    #expect(try arguments("m", "--packing=off").texts(of: "packing") == ["false"])
  }

  @Test func repetition() throws {
    #expect(try arguments("m", "--data", "a", "--data=b")[data] == ["a", "b"])
    #expect(try arguments("m", "--seed", "1", "--seed", "2")[seed] == 2)
  }

  @Test func doubleDashEndsOptions() throws {
    #expect(try arguments("--json", "--", "--strange")[model] == "--strange")
    #expect(try arguments("-")[model] == "-")
  }

  @Test func valuesMayBeginWithADash() throws {
    #expect(try arguments("m", "--data", "-x")[data] == ["-x"])
    #expect(try arguments("m", "--data=--json")[data] == ["--json"])
    #expect(message("generate", "m", "--temperature", "-1") == "--temperature: -1 is not in 0 ... 100")
  }

  @Test func mistakesAreOneLine() {
    #expect(message("genrate") == "unknown command genrate; did you mean generate?")
    #expect(message("xyzzy") == "unknown command xyzzy (see tool --help)")
    #expect(message("--json") == "unknown option --json; a command comes first (see tool --help)")
    #expect(
      message("generate", "m", "--max_token", "5")
        == "unknown option --max_token of generate; did you mean --max-tokens?")
    #expect(message("generate", "m", "--qqq") == "unknown option --qqq of generate (see tool generate --help)")
    #expect(message("generate", "m", "--max-tokens") == "--max-tokens needs a value: --max-tokens N")
    #expect(message("generate", "m", "--max-tokens", "--json") == "--max-tokens needs a value: --max-tokens N")
    #expect(message("generate", "m", "--max-tokens", "x") == "--max-tokens: \"x\" is not a whole number")
    #expect(message("generate", "m", "--max-tokens=0") == "--max-tokens: 0 is not in 1 ... 1000")
    #expect(message("generate", "m", "--temperature", "nan") == "--temperature: \"nan\" is not a number")
    #expect(message("generate", "m", "--format", "pdf") == "--format: \"pdf\" is not one of adapter, merged")
    #expect(message("generate", "m", "--json=maybe") == "--json: \"maybe\" is not true or false")
    #expect(message("generate") == "MODEL is missing (usage: tool generate MODEL [options])")
    #expect(message("generate", "m", "n") == "unexpected argument \"n\" (see tool generate --help)")
    #expect(message("info", "m") == "unexpected argument \"m\" (see tool info --help)")
  }

  @Test func help() throws {
    for words in [[], ["--help"], ["-h"], ["help"]] {
      guard case .print(let text) = try tool.parse(words) else { return #expect(Bool(false)) }
      #expect(text.contains("  generate  Generate text.\n"))
    }
    for words in [["generate", "--help"], ["help", "generate"], ["generate", "m", "--json", "-h"]] {
      guard case .print(let text) = try tool.parse(words) else { return #expect(Bool(false)) }
      #expect(text.contains("Usage: tool generate MODEL [options]"))
      #expect(text.contains("--max-tokens N"))
      #expect(text.contains("Tokens to generate at most. [256]"))
      #expect(text.contains("Data:\n  --[no-]packing"))
      #expect(text.contains("Randomness. [0.7] Also -t."))
      #expect(text.contains("tool generate model --max-tokens 5"))
    }
    guard case .print("tool 1.2") = try tool.parse(["--version"]) else { return #expect(Bool(false)) }
  }
}

@Suite struct NearestWordTests {
  private let words = ["learning-rate", "lora-rank", "lora-alpha", "batch-size", "max-steps", "seed", "lr"]

  @Test(arguments: [
    ("learning_rat", "learning-rate"), ("learnign-rate", "learning-rate"), ("learning", "learning-rate"),
    ("lora-rnak", "lora-rank"), ("batchsize", "batch-size"), ("sede", "seed"), ("maxsteps", "max-steps"),
  ])
  func isFound(word: String, expected: String) {
    #expect(nearestWord(to: word, in: words) == expected)
  }

  @Test(arguments: ["", "zzz", "completely-different", String(repeating: "x", count: 10000)])
  func isNotFound(word: String) {
    #expect(nearestWord(to: word, in: words) == nil)
  }
}
