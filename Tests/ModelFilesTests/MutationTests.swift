import Glibc
import JSONValues
import TestSupport
import Testing

@testable import ModelFiles

/// Damaged files of every kind: the readers may accept or throw, but never trap.
@Suite struct MutationTests {
  /// Files to start from, each near one of the readers' paths.
  static let ggufs: [[UInt8]] = {
    var formats = GGUFBuilder.tinyLlama(seed: 2)
    for (index, type) in ([1, 30, 2, 3, 6, 7, 8, 10, 11, 12, 13, 14, 20] as [UInt32]).enumerated() {
      guard let block = StorageFormat(ggmlType: type)?.block else { continue }
      formats.addTensor(
        "t\(index)", [UInt64(block.length), 2], type: type, [UInt8](repeating: 0x3C, count: 2 * block.byteCount))
    }
    formats.add("general.alignment", UInt32(32))
    let inner = GGUFBuilder.bytes(UInt32(5)) + GGUFBuilder.bytes(UInt64(1)) + GGUFBuilder.bytes(Int32(7))
    formats.add("nested", type: 9, GGUFBuilder.bytes(UInt32(9)) + GGUFBuilder.bytes(UInt64(2)) + inner + inner)
    return [GGUFBuilder.tinyLlama().build(), formats.build()]
  }()

  static let safetensorsFile = safetensors(
    #"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"#
      + #""b":{"dtype":"BF16","shape":[4],"data_offsets":[16,24]},"c":{"dtype":"U8","shape":[],"data_offsets":[24,25]}}"#,
    [UInt8](repeating: 1, count: 25))

  static let configuration = Array(
    #"""
    {"architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100, "rms_norm_eps": 1e-05, "head_dim": 16,
    "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192}, "eos_token_id": [1, 2], "tie_word_embeddings": true, "x": "\ud83d\ude00é"}
    """#.utf8)

  @Test(arguments: 0..<2) func mutatedGGUF(_ index: Int) throws {
    let memory = try GuardedMemory()
    var random = SeededRandom(seed: UInt64(3407 + index))
    var opened = 0
    for _ in 0..<rounds(20000) {
      let file = try memory.file(mutate(Self.ggufs[index], &random))
      if survives({ try readEverything(file) }) { opened += 1 }
    }
    #expect(opened > 0, "no mutation left a file that opens: the test does not reach the later checks")
  }

  @Test func mutatedSafetensors() throws {
    let memory = try GuardedMemory()
    var random = SeededRandom(seed: 1)
    var opened = 0
    for _ in 0..<rounds(50000) {
      let file = try memory.file(mutate(Self.safetensorsFile, &random))
      let isOpen = survives {
        for tensor in try SafetensorsFile(file).tensors where tensor.format.isDecodable {
          _ = try tensor.decoded()
        }
      }
      if isOpen { opened += 1 }
    }
    #expect(opened > 0, "no mutation left a file that opens: the test does not reach the later checks")
  }

  @Test func mutatedConfigurations() throws {
    var random = SeededRandom(seed: 2)
    for _ in 0..<rounds(30000) {
      let bytes = mutate(Self.configuration, &random)
      guard let json = try? JSONValue.parse(bytes) else { continue }
      #expect(try JSONValue.parse(json.serializedBytes()) == json)
      _ = survives { _ = try ModelConfiguration(json: json, path: "config.json", generation: json) }
    }
  }

  @Test func everyTruncationIsAnError() throws {
    let memory = try GuardedMemory()
    let kinds: [([UInt8], (MappedFile) throws -> Void)] = [
      (Self.ggufs[0], { _ = try GGUFFile($0) }), (Self.safetensorsFile, { _ = try SafetensorsFile($0) }),
    ]
    for (whole, open) in kinds {
      for length in 0..<whole.count {
        let file = try memory.file(Array(whole[..<length]))
        expectError("", naming: file.path) { try open(file) }
      }
    }
  }

  /// Few rounds without optimization, where each takes long.
  private func rounds(_ count: Int) -> Int {
    var isDebug = false
    assert(
      {
        isDebug = true
        return true
      }())
    return isDebug ? count / 20 : count
  }

  private func readEverything(_ file: MappedFile) throws {
    let gguf = try GGUFFile(file)
    for tensor in gguf.tensors where tensor.format.isDecodable { _ = try tensor.decoded() }
    let checkpoint = try Checkpoint(gguf: gguf)
    for name in checkpoint.tensorNames {
      let tensor = try checkpoint.tensor(name)
      if tensor.format.isDecodable { _ = try tensor.decoded() }
    }
  }

  /// Whether a reader accepted; an error must be one of ours and one line.
  private func survives(_ body: () throws -> Void) -> Bool {
    do {
      try body()
      return true
    } catch let error as ModelFileError {
      #expect(!error.description.contains("\n"), "\(error)")
      return false
    } catch {
      Issue.record("\(error) is no ModelFileError")
      return false
    }
  }

  /// Changes a few places: bits, bytes, whole integers with edge values, cuts, insertions, repetitions.
  private func mutate(_ original: [UInt8], _ random: inout SeededRandom) -> [UInt8] {
    var bytes = original
    for _ in 0..<Int.random(in: 1...3, using: &random) where !bytes.isEmpty {
      // Half of the places are near the start, where the counts are.
      let reach = Bool.random(using: &random) ? min(bytes.count, 400) : bytes.count
      let place = Int.random(in: 0..<reach, using: &random)
      switch Int.random(in: 0..<7, using: &random) {
      case 0: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
      case 1: bytes[place] = UInt8.random(in: 0...255, using: &random)
      case 2: bytes.replaceSubrange(place..<min(place + 8, bytes.count), with: edge(&random))
      case 3: bytes.replaceSubrange(place..<min(place + 4, bytes.count), with: edge(&random).prefix(4))
      case 4: bytes.removeSubrange(place..<min(place + Int.random(in: 1...16, using: &random), bytes.count))
      case 5: bytes.insert(contentsOf: bytes[place..<min(place + 24, bytes.count)], at: place)
      default: if Int.random(in: 0..<4, using: &random) == 0 { bytes.removeSubrange(place...) }
      }
    }
    return bytes
  }

  private func edge(_ random: inout SeededRandom) -> [UInt8] {
    let edges: [UInt64] = [
      0, 1, 2, 31, 32, 0x7F, 0xFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 1 << 32, 1 << 61, 1 << 62,
      0x7FFF_FFFF_FFFF_FFFF, 1 << 63, .max, .max - 31,
    ]
    return GGUFBuilder.bytes(edges[Int.random(in: 0..<edges.count, using: &random)])
  }
}

/// Memory whose last byte lies before a page that cannot be touched, so that a reader that goes too far is noticed.
private final class GuardedMemory {
  private let base: UnsafeMutableRawPointer
  private let size = 1 << 18

  init() throws {
    base = try #require(mmap(nil, size + 65536, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))
    try #require(base != MAP_FAILED && mprotect(base, size, PROT_READ | PROT_WRITE) == 0)
  }

  deinit { munmap(base, size + 65536) }

  /// A file of these bytes, which lasts until the next one.
  func file(_ bytes: [UInt8]) throws -> MappedFile {
    try #require(bytes.count <= size)
    let target = UnsafeMutableRawBufferPointer(start: base + (size - bytes.count), count: bytes.count)
    target.copyBytes(from: bytes)
    return MappedFile(path: "mutated", unowned: UnsafeRawBufferPointer(target))
  }
}
