import Glibc
import TestSupport
import Testing

@testable import Training

@Suite struct CheckpointStoreTests {
  let folder: TemporaryFolder
  var store: CheckpointStore { CheckpointStore(runPath: folder.path) }

  init() throws { folder = try TemporaryFolder() }

  static func writeFiles(_ text: String) -> (String) throws -> Void {
    { folder in
      try put(text, "\(folder)/adapter_model.safetensors")
      try put("state of " + text, "\(folder)/trainer_state.json")
    }
  }

  static func put(_ text: String, _ path: String) throws {
    guard let stream = fopen(path, "w") else { throw RunError.system(path, "write") }
    let count = fwrite(text, 1, text.utf8.count, stream)
    guard fclose(stream) == 0, count == text.utf8.count else { throw RunError.system(path, "write") }
  }

  func names(_ path: String = "checkpoints") -> [String] { Folders.names(in: "\(folder.path)/\(path)") }

  @Test func savesAreListedLinkedAndVerified() throws {
    let path = try store.save(step: 100, write: Self.writeFiles("a"))
    #expect(path == "\(folder.path)/checkpoints/step-000100")
    try store.save(step: 1_000_000, write: Self.writeFiles("b"))
    try store.save(step: 200, write: Self.writeFiles("c"))
    #expect(names() == ["step-000100", "step-000200", "step-1000000"])
    #expect(store.entries.map(\.step) == [100, 200, 1_000_000])
    #expect(store.latest().entry?.step == 1_000_000)
    #expect(Folders.target(ofLink: "\(folder.path)/latest") == "checkpoints/step-000200")
    #expect(TemporaryFolder.text(of: "\(folder.path)/latest/adapter_model.safetensors") == "c")
    try store.markBest(step: 100)
    #expect(store.bestStep == 100)
    try store.markBest(step: 200)
    #expect(store.bestStep == 200)
    #expect(throws: RunError.self) { try store.markBest(step: 300) }
    for entry in store.entries { try store.verify(entry) }
  }

  @Test func publishedCheckpointsStay() throws {
    try store.save(step: 5, write: Self.writeFiles("first"))
    let error = #expect(throws: RunError.self) { try store.save(step: 5, write: Self.writeFiles("second")) }
    #expect(error?.message.contains("exists already") == true)
    #expect(TemporaryFolder.text(of: "\(folder.path)/latest/adapter_model.safetensors") == "first")
  }

  @Test func aFailedSaveLeavesNothing() throws {
    struct Stop: Error {}
    try store.save(step: 1, write: Self.writeFiles("a"))
    #expect(throws: Stop.self) {
      try store.save(step: 2) { folder in
        try Self.writeFiles("b")(folder)
        throw Stop()
      }
    }
    #expect(names() == ["step-000001"])
    #expect(store.latest().entry?.step == 1)
  }

  @Test func oldCheckpointsGoButNotTheBest() throws {
    let store = CheckpointStore(runPath: folder.path, limit: 2)
    for step in 1...3 { try store.save(step: step, write: Self.writeFiles("\(step)")) }
    #expect(store.entries.map(\.step) == [2, 3])
    try store.markBest(step: 2)
    for step in 4...6 { try store.save(step: step, write: Self.writeFiles("\(step)")) }
    #expect(store.entries.map(\.step) == [2, 5, 6])
    #expect(names() == ["step-000002", "step-000005", "step-000006"])
  }

  @Test func damageIsFoundAndPassedOver() throws {
    for step in 1...5 { try store.save(step: step, write: Self.writeFiles("step \(step)")) }
    let base = "\(folder.path)/checkpoints"
    try Self.put("step", "\(base)/step-000005/adapter_model.safetensors")
    try Self.put("step 9", "\(base)/step-000004/adapter_model.safetensors")
    unlink("\(base)/step-000003/trainer_state.json")
    unlink("\(base)/step-000002/manifest.json")
    let (entry, damaged) = store.latest()
    #expect(entry?.step == 1)
    #expect(
      damaged.map { $0.replacing("\(base)/", with: "") } == [
        "step-000005/adapter_model.safetensors: the file is damaged: 4 bytes instead of 6",
        "step-000004/adapter_model.safetensors: the file is damaged: its checksum differs",
        "step-000003/trainer_state.json: the file is missing from the checkpoint",
        "step-000002/manifest.json: cannot open: no such file or folder",
      ])
    // The resumed run makes a damaged one again.
    try store.save(step: 4, write: Self.writeFiles("step 4"))
    #expect(store.latest().entry?.step == 4)
    rename("\(base)/step-000004", "\(base)/step-000007")
    #expect(store.latest().entry?.step == 1)
    #expect(store.latest().damaged[0].hasSuffix("its manifest speaks of step 4"))
  }

  @Test(arguments: ["{", "[]", "{\"step\":1,\"files\":[{}]}", "{\"step\":1,\"files\":[{\"name\":\"../a\"}]}"])
  func hostileManifests(text: String) throws {
    try store.save(step: 1, write: Self.writeFiles("a"))
    try Self.put(text, "\(folder.path)/latest/manifest.json")
    #expect(store.latest().entry == nil)
    #expect(store.latest().damaged.count == 1)
  }

  @Test func aCheckpointHoldsPlainFiles() throws {
    #expect(throws: (any Error).self) { try store.save(step: 1) { mkdir("\($0)/sub", 0o777) } }
    #expect(store.entries.isEmpty)
  }

  @Test func foldersThatCannotBeWritten() throws {
    let file = try folder.write("file", "x")
    let error = #expect(throws: RunError.self) { try RunFolder.create("\(file)/run") }
    #expect(error?.message == "cannot make the folder: a part of the path is no folder")
    #expect(throws: RunError.self) { try RunFolder.create(file) }
    #expect(throws: RunError.self) { try RunFolder.create("/proc/run") }
    #expect(throws: RunError.self) { try CheckpointStore(runPath: file).save(step: 1, write: Self.writeFiles("a")) }
  }

  @Test func tooLittleSpaceIsSaidBefore() throws {
    let error = #expect(throws: (any Error).self) {
      try store.save(step: 1, byteCount: 1 << 60) { _ in Issue.record("written all the same") }
    }
    #expect("\(error as Any)".contains("too little space"))
    let run = try RunFolder.create("\(folder.path)/run")
    var needs = DiskNeeds(checkpoint: 1 << 50, result: 1, saves: 1 << 10, limit: nil, lines: (1, 400))
    #expect(throws: RunError.self) { try run.checkSpace(needs) }
    needs.checkpoint = 1
    try run.checkSpace(needs)
  }

  /// Moments at which `kill -9` ends the process, and the step that a resumed run must find.
  static let kills: [(moment: String, latest: Int)] = [
    ("while writing", 1), ("written", 1), ("listed", 1), ("published", 2), ("linked", 2),
  ]

  @Test(arguments: kills) func killedSavesLoseNothing(moment: String, latest: Int) async throws {
    let path = folder.path
    try store.save(step: 1, write: Self.writeFiles("a"))
    await #expect(processExitsWith: .signal(SIGKILL)) { [path = path as String, moment = moment as String] in
      var store = CheckpointStore(runPath: path, limit: 1)
      let end = CheckpointStore.Moment(rawValue: moment)
      store.atMoment = { if $0 == end { kill(getpid(), SIGKILL) } }
      try store.save(step: 2) { folder in
        if end == nil {
          try Self.put("half", "\(folder)/adapter_model.safetensors")
          kill(getpid(), SIGKILL)
        }
        try Self.writeFiles("b")(folder)
      }
    }
    #expect(store.latest().entry?.step == latest)
    #expect(store.latest().damaged.isEmpty)
    let link = TemporaryFolder.text(of: "\(path)/latest/adapter_model.safetensors")
    #expect(link == "a" || (link == "b" && latest == 2))
    let run = try RunFolder.resume(path, saveLimit: 1)
    #expect(names().allSatisfy { !$0.hasPrefix(".") })
    if latest == 1 { try run.checkpoints.save(step: 2, write: Self.writeFiles("b")) }
    try run.checkpoints.save(step: 3, write: Self.writeFiles("c"))
    #expect(names() == ["step-000003"])
  }

  @Test func aFullDiskLosesNothing() async throws {
    let path = folder.path
    try store.save(step: 1, write: Self.writeFiles("a"))
    await #expect(processExitsWith: .success) { [path = path as String] in
      // A file that may not grow fails as one on a full disk does, in the middle of a write.
      signal(SIGXFSZ, SIG_IGN)
      var limit = rlimit(rlim_cur: 10_000, rlim_max: 10_000)
      setrlimit(__rlimit_resource_t(1), &limit)
      let store = CheckpointStore(runPath: path)
      do {
        try store.save(step: 2, write: Self.writeFiles(String(repeating: "b", count: 100_000)))
        exit(1)
      } catch {
        exit("\(error)".contains("adapter_model.safetensors: cannot write: the file would be larger") ? 0 : 2)
      }
    }
    #expect(names() == ["step-000001"])
    #expect(store.latest().entry?.step == 1)
  }
}
