import Glibc
import TestSupport
import Testing

@testable import ModelFiles

@Suite struct AtomicFileWriterTests {
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  var path: String { folder.path + "/out.bin" }
  var hidden: String { folder.path + "/.out.bin.incomplete" }

  @Test func theFileAppearsAtTheCommit() throws {
    _ = try folder.write("out.bin", "old")
    let writer = try AtomicFileWriter(path: path)
    try writer.write("new ")
    try writer.write([0x21])
    #expect(TemporaryFolder.text(of: path) == "old")
    try writer.commit()
    #expect(TemporaryFolder.text(of: path) == "new !")
    #expect(access(hidden, F_OK) != 0)
    expectError("already written") { try writer.write("more") }
    expectError("already written") { try writer.commit() }
  }

  @Test func withoutACommitNothingStays() throws {
    _ = try folder.write("out.bin", "old")
    do {
      let writer = try AtomicFileWriter(path: path)
      try writer.write("new")
    }
    #expect(TemporaryFolder.text(of: path) == "old")
    #expect(access(hidden, F_OK) != 0)
  }

  @Test func whatAKilledProcessLeftIsOverwritten() throws {
    _ = try folder.write(".out.bin.incomplete", "a long leftover of a process that was killed")
    try writeAtomically("new", to: path)
    #expect(TemporaryFolder.text(of: path) == "new")
    #expect(access(hidden, F_OK) != 0)
  }

  @Test func twoWritersOfOneFileDoNotMix() throws {
    let first = try AtomicFileWriter(path: path)
    try first.write("first")
    expectError("another process is writing this file", naming: path) { _ = try AtomicFileWriter(path: path) }
    try first.commit()
    try writeAtomically("second", to: path)
    #expect(TemporaryFolder.text(of: path) == "second")
  }

  @Test func aFullDiskIsNoticedBefore() throws {
    expectError("the disk has too little space: 1152921504607 MB are needed", naming: path) {
      _ = try AtomicFileWriter(path: path, expectedByteCount: 1 << 60)
    }
    #expect(access(hidden, F_OK) != 0)
  }

  @Test(arguments: [
    (ENOSPC, "cannot write: the disk is full; free some space and run again"),
    (EROFS, "cannot write: the file system is read-only; choose another folder"),
    (EACCES, "cannot write: permission denied"),
    (EFBIG, "cannot write: the file would be larger than this system or its limits allow"),
  ])
  func errorsOfTheSystemAreClear(_ code: Int32, _ message: String) {
    #expect(ModelFileError.system("/a/b", "write", code).description == "/a/b: " + message)
  }

  @Test func aMissingFolderIsNamed() {
    expectError("cannot write: no such file or folder", naming: "/nonexistent/x") {
      try writeAtomically("x", to: "/nonexistent/x")
    }
    expectError("this is no name for a file") { try writeAtomically("x", to: folder.path + "/") }
  }

  /// A write that fails in the middle, as on a full disk: the limit on the size of a file stands in for the disk.
  @Test func aFailingWriteKeepsTheOldFile() async throws {
    _ = try folder.write("out.bin", "old")
    try await confirmInChild(path)
    #expect(TemporaryFolder.text(of: path) == "old")
    #expect(access(hidden, F_OK) != 0)
  }

  private func confirmInChild(_ path: String) async throws {
    // Limits hold for a whole process, so the write happens in one of its own.
    await #expect(processExitsWith: .success) { [path] in
      signal(SIGXFSZ, SIG_IGN)
      var limit = rlimit(rlim_cur: 1 << 20, rlim_max: 1 << 20)
      setrlimit(__rlimit_resource_t(UInt32(RLIMIT_FSIZE.rawValue)), &limit)
      do {
        try writeAtomically([UInt8](repeating: 1, count: 3 << 20), to: path)
        exit(1)
      } catch { exit("\(error)".contains("the file would be larger than") ? 0 : 2) }
    }
  }
}

@Suite struct MappedFileTests {
  @Test func refusesWhatIsNoFile() throws {
    let folder = try TemporaryFolder()
    expectError("this is a folder, a file was expected") { _ = try MappedFile(path: folder.path) }
    expectError("no such file or folder") { _ = try MappedFile(path: folder.path + "/x") }
    expectError("no regular file") { _ = try MappedFile(path: "/dev/null") }
    mkfifo(folder.path + "/pipe", 0o600)
    expectError("no regular file") { _ = try MappedFile(path: folder.path + "/pipe") }
  }

  @Test func readsAndReleases() throws {
    let folder = try TemporaryFolder()
    let file = try MappedFile(path: try folder.write("x", [UInt8](repeating: 7, count: 100_000)))
    #expect(file.bytes.count == 100_000 && file.bytes[99_999] == 7)
    file.prefetch(0..<100_000)
    file.release(10..<99_999)
    file.release(0..<Int.max)
    #expect(file.bytes.allSatisfy { $0 == 7 })
    #expect(try MappedFile(path: try folder.write("empty", "")).bytes.isEmpty)
  }
}
