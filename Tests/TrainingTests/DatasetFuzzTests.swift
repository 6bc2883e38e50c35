import Models
import TestSupport
import Testing

@testable import Training

/// Data files with random damage: every one is read or refused with one line that names the file, none traps.
@Suite struct DatasetFuzzTests {
  static let seeds = [
    #"{"messages": [{"role": "user", "content": "Hé\n"}, {"role": "assistant", "content": [{"text": "Ho"}]}], "tools": []}"#
      + "\n{\"messages\": [{\"role\": \"system\", \"content\": \"\\ud83d\\ude00\"}]}\n",
    #"[{"conversations": [{"from": "human", "value": "Hi"}, {"from": "function_call", "value": "{\"name\": \"f\"}"}]},"#
      + "\n {\"conversations\": []}]",
    "\u{FEFF}{\"instruction\": \"a\", \"output\": \"b\"}\r\n\r\n{\"instruction\": \"a\", \"input\": null, \"output\": 1e5}",
    #"[{"text": "\\\"]["}, {"text": [[[[]]]]}]"#,
  ]
  static let pieces = [
    "{", "}", "[", "]", "\"", "\\", ",", ":", "\n", "\r\n", "null", "-0", "1e999", "\\ud800", "\"messages\":",
    "\u{FEFF}",
    "\"role\"", "\"content\"",
  ]

  @Test(arguments: seeds.indices) func damagedFiles(seed: Int) throws {
    let folder = try TemporaryFolder()
    var random = RandomSource(seed: 20, stream: UInt64(seed))
    for round in 0..<700 {
      var bytes = Array(Self.seeds[seed].utf8)
      for _ in 0...random.next(below: 4) {
        let place = random.next(below: bytes.count)
        switch random.next(below: 5) {
        case 0: bytes[place] = UInt8(random.next(below: 256))
        case 1: bytes.remove(at: place)
        case 2: bytes.insert(contentsOf: Self.pieces[random.next(below: Self.pieces.count)].utf8, at: place)
        case 3: bytes.removeSubrange(place..<min(bytes.count, place + random.next(below: 20)))
        default: bytes += bytes[place...]
        }
        if bytes.isEmpty { bytes = [0x20] }
      }
      let path = try folder.write(["a.jsonl", "a.json", "a.csv", "a.tsv", "a.txt", "a.jsonl.gz"][round % 6], bytes)
      do {
        _ = try Dataset(paths: [path]).samples()
      } catch {
        #expect("\(error)".hasPrefix(path) && !"\(error)".contains("\n"), "seed \(seed), round \(round)")
      }
    }
  }
}
