// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC1967Proxy} from "@openzeppelin/contracts/proxy/ERC1967/ERC1967Proxy.sol";
import {AppAuth} from "../src/AppAuth.sol";
import {IAppAuth} from "../src/IAppAuth.sol";
import {Cheats, VM} from "./Cheats.sol";
import {Fixture} from "./Fixture.sol";
import {Handler} from "./Handler.sol";

/// @dev Whatever is tried in whatever order, the contracts' state and verdicts are those of the handler's model.
contract PolicyInvariant is Fixture {
    uint256 private constant APPS = 3;
    uint256 private constant HASHES = 2;
    address private constant HEIR = address(0x4E);

    Handler private handler;

    function setUp() public override {
        appImplementation = new AppAuth();
        kms = newKms(OPERATOR, address(appImplementation));
        bytes memory call =
            abi.encodeWithSignature("initialize(address,bool,bool,bytes32,bytes32)", TENANT, false, false, 0, 0);
        address[] memory apps = new address[](APPS);
        apps[0] = kms.deployAndRegisterApp(TENANT, false, false, 0, 0);
        apps[1] = address(new ERC1967Proxy(address(appImplementation), call));
        apps[2] = address(0xE0A);
        address[] memory actors = new address[](4);
        (actors[0], actors[1], actors[2], actors[3]) = (OPERATOR, TENANT, STRANGER, HEIR);
        address[] memory implementations = new address[](2);
        (implementations[0], implementations[1]) = (address(appImplementation), address(new AppAuth()));
        handler = new Handler(kms, apps, actors, implementations);
    }

    /// @dev Read by forge: the fuzzer calls the handler alone.
    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    /// @dev Read by forge: only what changes something, so that no run is spent on getters.
    function targetSelectors() external view returns (Cheats.FuzzSelector[] memory targets) {
        bytes4[] memory selectors = new bytes4[](19);
        selectors[0] = Handler.register.selector;
        selectors[1] = Handler.setImage.selector;
        selectors[2] = Handler.setComposeHash.selector;
        selectors[3] = Handler.setDevice.selector;
        selectors[4] = Handler.setAnyDevice.selector;
        selectors[5] = Handler.setUpToDate.selector;
        selectors[6] = Handler.disableUpgrades.selector;
        selectors[7] = Handler.upgrade.selector;
        selectors[8] = Handler.transferOwnership.selector;
        selectors[9] = Handler.acceptOwnership.selector;
        selectors[10] = Handler.initializeAgain.selector;
        selectors[11] = Handler.deregister.selector;
        selectors[12] = Handler.setPaused.selector;
        selectors[13] = Handler.setAllComposeHashes.selector;
        selectors[14] = Handler.setAllImages.selector;
        selectors[15] = Handler.setKmsMeasurement.selector;
        selectors[16] = Handler.setKmsDevice.selector;
        selectors[17] = Handler.setAllKmsMeasurements.selector;
        selectors[18] = Handler.setAllKmsDevices.selector;
        targets = new Cheats.FuzzSelector[](1);
        targets[0] = Cheats.FuzzSelector(address(handler), selectors);
    }

    /// @dev No path allows an application that nobody registered.
    function invariant_unregisteredIsRefused() external view {
        for (uint256 a = 0; a < APPS; a++) {
            if (handler.registered(handler.apps(a))) continue;
            for (uint256 i = 0; i < HASHES ** 3; i++) {
                (bool allowed,) = kms.isAppAllowed(guest(a, i));
                VM.assertFalse(allowed, "an unregistered application is allowed");
            }
        }
    }

    /// @dev A compose hash that is removed, or was never added, is refused until it is added.
    function invariant_unlistedIsRefused() external view {
        for (uint256 a = 0; a < APPS; a++) {
            for (uint256 i = 0; i < HASHES ** 3; i++) {
                IAppAuth.AppBootInfo memory info = guest(a, i);
                if (handler.composeHashAllowed(info.appId, info.composeHash)) continue;
                (bool allowed,) = kms.isAppAllowed(info);
                VM.assertFalse(allowed, "an unlisted compose hash is allowed");
            }
        }
    }

    /// @dev A pause of the registry refuses everybody, and one of an application everybody who names it.
    function invariant_pausedIsRefused() external view {
        for (uint256 a = 0; a < APPS; a++) {
            if (!handler.paused(address(kms)) && !handler.paused(handler.apps(a))) continue;
            for (uint256 i = 0; i < HASHES ** 3; i++) {
                (bool allowed,) = kms.isAppAllowed(guest(a, i));
                VM.assertFalse(allowed, "a pause lets somebody through");
            }
        }
    }

    /// @dev Allowed is exactly what the owners' own calls add up to.
    function invariant_verdictIsTheModels() external view {
        for (uint256 a = 0; a < APPS; a++) {
            for (uint256 i = 0; i < HASHES ** 3; i++) {
                IAppAuth.AppBootInfo memory info = guest(a, i);
                (bool allowed, string memory reason) = kms.isAppAllowed(info);
                assertVerdict(allowed, reason, expected(info));
            }
        }
    }

    /// @dev Which key management servers may run is what the owner's own calls add up to.
    function invariant_keyServersAreTheModels() external view {
        for (uint256 i = 0; i < HASHES ** 3; i++) {
            IAppAuth.AppBootInfo memory info = guest(0, i);
            info.mrAggregated = info.composeHash;
            (bool allowed, string memory reason) = kms.isKmsAllowed(info);
            assertVerdict(allowed, reason, expectedOfKeyServer(info));
        }
    }

    /// @dev Ownership moves only by an owner's offer and the heir's acceptance; a final implementation stays.
    function invariant_governanceIsTheModels() external view {
        VM.assertEq(kms.owner(), handler.owner(address(kms)), "owner of the registry");
        for (uint256 a = 0; a < 2; a++) {
            AppAuth target = AppAuth(handler.apps(a));
            VM.assertEq(target.owner(), handler.owner(address(target)), "owner");
            VM.assertEq(target.pendingOwner(), handler.pendingOwner(address(target)), "pending owner");
            VM.assertEq(
                VM.load(address(target), IMPLEMENTATION_SLOT),
                word(handler.implementation(address(target))),
                "implementation"
            );
        }
    }

    /// @dev The `index`th guest of an application: all combinations of compose hash, device and image.
    function guest(uint256 app, uint256 index) private view returns (IAppAuth.AppBootInfo memory info) {
        info.appId = handler.apps(app);
        info.composeHash = handler.hashes(index % HASHES);
        info.deviceId = handler.hashes(index / HASHES % HASHES);
        info.osImageHash = handler.hashes(index / HASHES ** 2);
        info.tcbStatus = (app + index) % 3 == 0 ? "UpToDate" : "OutOfDate";
    }

    function expected(IAppAuth.AppBootInfo memory info) private view returns (string memory) {
        if (handler.paused(address(kms))) return "KMS is paused";
        if (!handler.registered(info.appId)) return "App not registered";
        if (!handler.images(info.osImageHash)) return "OS image is not allowed";
        if (info.appId.code.length == 0) return "App not deployed or invalid address";
        if (handler.paused(info.appId)) return "App is paused";
        if (!handler.statusAllowed(info.appId, info.tcbStatus)) return "TCB status is not up to date";
        if (!handler.composeHashAllowed(info.appId, info.composeHash)) return "Compose hash not allowed";
        if (!handler.deviceAllowed(info.appId, info.deviceId)) return "Device not allowed";
        return "";
    }

    function expectedOfKeyServer(IAppAuth.AppBootInfo memory info) private view returns (string memory) {
        if (handler.paused(address(kms))) return "KMS is paused";
        if (keccak256(bytes(info.tcbStatus)) != keccak256("UpToDate")) return "TCB status is not up to date";
        if (!handler.images(info.osImageHash)) return "OS image is not allowed";
        if (!handler.kmsMeasurements(info.mrAggregated)) return "Aggregated MR not allowed";
        if (!handler.kmsDevices(info.deviceId)) return "KMS is not allowed to boot on this device";
        return "";
    }
}
