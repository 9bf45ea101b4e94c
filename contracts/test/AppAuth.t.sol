// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC1967Proxy} from "@openzeppelin/contracts/proxy/ERC1967/ERC1967Proxy.sol";
import {AppAuth} from "../src/AppAuth.sol";
import {Governed} from "../src/Governed.sol";
import {IAppAuth} from "../src/IAppAuth.sol";
import {IAppAuthBasicManagement} from "../src/IAppAuthBasicManagement.sol";
import {Cheats, VM} from "./Cheats.sol";
import {Fixture} from "./Fixture.sol";

contract AppAuthTest is Fixture {
    function testAllowsWhatMeetsEveryRule() public view {
        assertAllowed(app, boot());
    }

    function testRefusesAnUnknownComposeHash() public view {
        IAppAuth.AppBootInfo memory info = boot();
        info.composeHash = OTHER;
        assertRefused(app, info, "Compose hash not allowed");
    }

    function testRefusesAnUnknownDevice() public view {
        IAppAuth.AppBootInfo memory info = boot();
        info.deviceId = OTHER;
        assertRefused(app, info, "Device not allowed");
    }

    function testRefusesADegradedPlatformWhereDemanded() public {
        IAppAuth.AppBootInfo memory info = boot();
        string[4] memory degraded = ["OutOfDate", "uptodate", "UpToDate ", ""];
        for (uint256 i = 0; i < degraded.length; i++) {
            info.tcbStatus = degraded[i];
            assertRefused(app, info, "TCB status is not up to date");
        }
        VM.prank(TENANT);
        app.setRequireTcbUpToDate(false);
        assertAllowed(app, info);
    }

    /// @dev The order in which dstack names a guest's faults.
    function testNamesTheFirstFault() public view {
        IAppAuth.AppBootInfo memory info = boot();
        info.deviceId = OTHER;
        info.composeHash = OTHER;
        assertRefused(app, info, "Compose hash not allowed");
        info.tcbStatus = "Revoked";
        assertRefused(app, info, "TCB status is not up to date");
    }

    function testDoesNotLookAtTheRest() public view {
        IAppAuth.AppBootInfo memory info = boot();
        info.appId = STRANGER;
        info.instanceId = STRANGER;
        info.mrAggregated = OTHER;
        info.mrSystem = OTHER;
        info.osImageHash = OTHER;
        info.advisoryIds = new string[](2);
        assertAllowed(app, info);
    }

    function testComposeHashComesAndGoes() public {
        IAppAuth.AppBootInfo memory info = boot();
        info.composeHash = OTHER;

        VM.expectEmit(address(app));
        emit IAppAuthBasicManagement.ComposeHashAdded(OTHER);
        expectPolicy(address(app), TENANT, "compose-hash", OTHER, true);
        VM.prank(TENANT);
        app.addComposeHash(OTHER);
        VM.assertTrue(app.allowedComposeHashes(OTHER), "listed");
        assertAllowed(app, info);

        VM.expectEmit(address(app));
        emit IAppAuthBasicManagement.ComposeHashRemoved(OTHER);
        expectPolicy(address(app), TENANT, "compose-hash", OTHER, false);
        VM.prank(TENANT);
        app.removeComposeHash(OTHER);
        VM.assertFalse(app.allowedComposeHashes(OTHER), "no longer listed");
        assertRefused(app, info, "Compose hash not allowed");
        assertAllowed(app, boot());
    }

    function testDeviceComesAndGoes() public {
        IAppAuth.AppBootInfo memory info = boot();
        info.deviceId = OTHER;

        VM.expectEmit(address(app));
        emit IAppAuthBasicManagement.DeviceAdded(OTHER);
        expectPolicy(address(app), TENANT, "device", OTHER, true);
        VM.prank(TENANT);
        app.addDevice(OTHER);
        VM.assertTrue(app.allowedDeviceIds(OTHER), "listed");
        assertAllowed(app, info);

        VM.expectEmit(address(app));
        emit IAppAuthBasicManagement.DeviceRemoved(OTHER);
        expectPolicy(address(app), TENANT, "device", OTHER, false);
        VM.prank(TENANT);
        app.removeDevice(OTHER);
        VM.assertFalse(app.allowedDeviceIds(OTHER), "no longer listed");
        assertRefused(app, info, "Device not allowed");
    }

    function testAnyDevice() public {
        IAppAuth.AppBootInfo memory info = boot();
        info.deviceId = OTHER;

        VM.expectEmit(address(app));
        emit AppAuth.AllowAnyDeviceSet(true);
        expectPolicy(address(app), TENANT, "allow-any-device", 0, true);
        VM.prank(TENANT);
        app.setAllowAnyDevice(true);
        assertAllowed(app, info);

        expectPolicy(address(app), TENANT, "allow-any-device", 0, false);
        VM.prank(TENANT);
        app.setAllowAnyDevice(false);
        assertRefused(app, info, "Device not allowed");
    }

    function testDemandOnThePlatformIsAnnounced() public {
        VM.expectEmit(address(app));
        emit AppAuth.RequireTcbUpToDateSet(false);
        expectPolicy(address(app), TENANT, "require-tcb-up-to-date", 0, false);
        VM.prank(TENANT);
        app.setRequireTcbUpToDate(false);
        VM.assertFalse(app.requireTcbUpToDate(), "flag");
    }

    function testZeroIsNeverAllowed() public {
        VM.expectRevert(bytes("invalid compose hash"));
        VM.prank(TENANT);
        app.addComposeHash(0);

        VM.expectRevert(bytes("invalid device ID"));
        VM.prank(TENANT);
        app.addDevice(0);

        AppAuth bare = AppAuth(kms.deployAndRegisterApp(TENANT, false, false, 0, 0));
        VM.assertFalse(bare.allowedComposeHashes(0) || bare.allowedDeviceIds(0), "zero at creation means none");

        IAppAuth.AppBootInfo memory info = boot();
        info.deviceId = 0;
        assertRefused(app, info, "Device not allowed");
        info.composeHash = 0;
        assertRefused(app, info, "Compose hash not allowed");
    }

    /// @dev An event log reader knows the whole initial policy, flags included.
    function testCreationAnnouncesTheInitialPolicy() public {
        bytes memory call = abi.encodeWithSignature(
            "initialize(address,bool,bool,bool,bytes32,bytes32)", TENANT, true, true, true, DEVICE, COMPOSE
        );
        VM.recordLogs();
        address made = address(new ERC1967Proxy(address(appImplementation), call));
        bytes32[2][5] memory expected = [
            [keccak256("upgrades-disabled"), bytes32(0)],
            [keccak256("require-tcb-up-to-date"), bytes32(0)],
            [keccak256("allow-any-device"), bytes32(0)],
            [keccak256("device"), DEVICE],
            [keccak256("compose-hash"), COMPOSE]
        ];
        uint256 seen;
        Cheats.Log[] memory logs = VM.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; i++) {
            if (logs[i].topics[0] != Governed.PolicyChanged.selector) continue;
            VM.assertEq(logs[i].emitter, made, "emitter");
            VM.assertEq(logs[i].topics[2], expected[seen][0], "policy");
            VM.assertEq(logs[i].topics[3], expected[seen][1], "value");
            VM.assertEq(logs[i].data, abi.encode(true), "enabled");
            seen++;
        }
        VM.assertEq(seen, expected.length, "number of policies");
    }

    function testOldInitializerDemandsNothingOfThePlatform() public {
        bytes memory call =
            abi.encodeWithSignature("initialize(address,bool,bool,bytes32,bytes32)", TENANT, false, true, 0, COMPOSE);
        AppAuth made = AppAuth(address(new ERC1967Proxy(address(appImplementation), call)));
        IAppAuth.AppBootInfo memory info = boot();
        info.tcbStatus = "OutOfDate";
        info.deviceId = OTHER;
        assertAllowed(made, info);
        VM.assertEq(made.owner(), TENANT, "owner");
    }

    function testRefusesToStartWithoutAnOwner() public {
        bytes memory call = abi.encodeWithSignature(
            "initialize(address,bool,bool,bool,bytes32,bytes32)", address(0), false, false, false, 0, 0
        );
        VM.expectRevert(bytes("invalid owner address"));
        new ERC1967Proxy(address(appImplementation), call);
    }

    function testFuzz_onlyListedHashesAreAllowed(bytes32 listed, bytes32 asked) public {
        VM.assume(listed != 0 && listed != asked && asked != COMPOSE);
        VM.prank(TENANT);
        app.addComposeHash(listed);
        IAppAuth.AppBootInfo memory info = boot();
        info.composeHash = asked;
        assertRefused(app, info, "Compose hash not allowed");
        info.composeHash = listed;
        assertAllowed(app, info);
    }

    /// @dev A hash that lost leading or trailing bytes on its way is another hash, never the same one.
    function testFuzz_shortHashesNeverAlias(bytes32 listed, uint8 lost) public {
        uint256 bits = (uint256(lost) % 31 + 1) * 8;
        bytes32 left = listed << bits;
        bytes32 right = listed >> bits;
        VM.assume(listed != 0 && left != listed && right != listed);
        VM.prank(TENANT);
        app.addComposeHash(listed);
        VM.prank(TENANT);
        app.addDevice(listed);
        VM.assertFalse(app.allowedComposeHashes(left) || app.allowedComposeHashes(right), "compose hash");
        VM.assertFalse(app.allowedDeviceIds(left) || app.allowedDeviceIds(right), "device");
    }

    /// @dev Nor is a call that ends early filled up with zeros.
    function testFuzz_shortCallsAreRefused(bytes32 listed, uint8 length) public {
        bytes memory part = new bytes(uint256(length) % 32);
        for (uint256 i = 0; i < part.length; i++) {
            part[i] = listed[i];
        }
        bytes4[4] memory selectors = [
            AppAuth.addComposeHash.selector,
            AppAuth.removeComposeHash.selector,
            AppAuth.addDevice.selector,
            AppAuth.removeDevice.selector
        ];
        for (uint256 i = 0; i < selectors.length; i++) {
            VM.prank(TENANT);
            (bool done,) = address(app).call(abi.encodePacked(selectors[i], part));
            VM.assertFalse(done, "a short call went through");
        }
        (bool asked,) = address(app).call(abi.encodePacked(IAppAuth.isAppAllowed.selector, part));
        VM.assertFalse(asked, "a short question was answered");
    }

    function testFuzz_removalIsFinalUntilAddedAgain(bytes32 hash, uint8 additions, uint8 removals) public {
        VM.assume(hash != 0);
        IAppAuth.AppBootInfo memory info = boot();
        info.composeHash = hash;
        for (uint256 i = 0; i <= additions % 4; i++) {
            VM.prank(TENANT);
            app.addComposeHash(hash);
        }
        for (uint256 i = 0; i <= removals % 4; i++) {
            VM.prank(TENANT);
            app.removeComposeHash(hash);
            assertRefused(app, info, "Compose hash not allowed");
        }
        VM.prank(TENANT);
        app.addComposeHash(hash);
        assertAllowed(app, info);
    }

    function testFuzz_composeHashesAndDevicesAreApart(bytes32 value) public {
        VM.assume(value != 0 && value != COMPOSE && value != DEVICE);
        VM.prank(TENANT);
        app.addDevice(value);
        VM.assertFalse(app.allowedComposeHashes(value), "a device is no compose hash");
        VM.prank(TENANT);
        app.removeDevice(value);
        VM.prank(TENANT);
        app.addComposeHash(value);
        VM.assertFalse(app.allowedDeviceIds(value), "a compose hash is no device");
    }

    function testFuzz_onlyOneStatusIsUpToDate(string calldata status) public view {
        VM.assume(keccak256(bytes(status)) != keccak256("UpToDate"));
        IAppAuth.AppBootInfo memory info = boot();
        info.tcbStatus = status;
        assertRefused(app, info, "TCB status is not up to date");
    }
}
