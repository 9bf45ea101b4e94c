// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {PausableUpgradeable} from "@openzeppelin/contracts-upgradeable/utils/PausableUpgradeable.sol";
import {IERC165} from "@openzeppelin/contracts/utils/introspection/IERC165.sol";
import {AppAuth} from "../src/AppAuth.sol";
import {Governed} from "../src/Governed.sol";
import {IAppAuth} from "../src/IAppAuth.sol";
import {IAppAuthBasicManagement} from "../src/IAppAuthBasicManagement.sol";
import {IAppAuthBatches} from "../src/IAppAuthBatches.sol";
import {IKmsAuthBatches} from "../src/IKmsAuthBatches.sol";
import {IKmsAuthManagement} from "../src/IKmsAuthManagement.sol";
import {KmsAuth} from "../src/KmsAuth.sol";
import {VM} from "./Cheats.sol";
import {Fixture} from "./Fixture.sol";

/// @dev What others have compiled in: selectors, interface ids, event topics and storage slots, as constants.
contract InterfaceTest is Fixture {
    function testSelectorsOfAppAuth() public view {
        selector(app.isAppAllowed.selector, 0x1e079198, "isAppAllowed");
        selector(app.allowedComposeHashes.selector, 0x2f6622e5, "allowedComposeHashes");
        selector(app.allowedDeviceIds.selector, 0xbf8b211b, "allowedDeviceIds");
        selector(app.allowAnyDevice.selector, 0x3440a16a, "allowAnyDevice");
        selector(app.requireTcbUpToDate.selector, 0x0aa58c83, "requireTcbUpToDate");
        selector(app.version.selector, 0x54fd4d50, "version");
        selector(app.addComposeHash.selector, 0xdfc77223, "addComposeHash");
        selector(app.removeComposeHash.selector, 0x67b3f22c, "removeComposeHash");
        selector(app.addDevice.selector, 0x2a819728, "addDevice");
        selector(app.removeDevice.selector, 0x1d266200, "removeDevice");
        selector(app.setAllowAnyDevice.selector, 0x7c4beeb8, "setAllowAnyDevice");
        selector(app.setRequireTcbUpToDate.selector, 0x6e4c7422, "setRequireTcbUpToDate");
        selector(app.disableUpgrades.selector, 0xec669036, "disableUpgrades");
    }

    function testSelectorsOfKmsAuth() public view {
        selector(kms.isAppAllowed.selector, 0x1e079198, "isAppAllowed");
        selector(kms.isKmsAllowed.selector, 0xe067ec9d, "isKmsAllowed");
        selector(kms.gatewayAppId.selector, 0x95f51931, "gatewayAppId");
        selector(kms.appImplementation.selector, 0x25a992da, "appImplementation");
        selector(kms.registeredApps.selector, 0xa6c4cce9, "registeredApps");
        selector(kms.allowedOsImages.selector, 0x9a4e1d18, "allowedOsImages");
        selector(kms.kmsAllowedAggregatedMrs.selector, 0xf6fe4f40, "kmsAllowedAggregatedMrs");
        selector(kms.kmsAllowedDeviceIds.selector, 0x13eb9770, "kmsAllowedDeviceIds");
        selector(kms.kmsInfo.selector, 0x09177063, "kmsInfo");
        selector(kms.registerApp.selector, 0x17a1d80f, "registerApp");
        selector(kms.initialize.selector, 0x485cc955, "initialize");
        selector(kms.setKmsInfo.selector, 0x7d025352, "setKmsInfo");
        selector(kms.setKmsQuote.selector, 0x18c1ecb2, "setKmsQuote");
        selector(kms.setKmsEventlog.selector, 0x736ede7a, "setKmsEventlog");
        selector(kms.setGatewayAppId.selector, 0x3971db27, "setGatewayAppId");
        selector(kms.setAppImplementation.selector, 0x3ceaaa11, "setAppImplementation");
        selector(kms.addKmsAggregatedMr.selector, 0x3e32d346, "addKmsAggregatedMr");
        selector(kms.removeKmsAggregatedMr.selector, 0x2adee48d, "removeKmsAggregatedMr");
        selector(kms.addKmsDevice.selector, 0x4d5922a1, "addKmsDevice");
        selector(kms.removeKmsDevice.selector, 0x9e6f3114, "removeKmsDevice");
        selector(kms.addOsImageHash.selector, 0x06a3ae96, "addOsImageHash");
        selector(kms.removeOsImageHash.selector, 0x9425bac6, "removeOsImageHash");
    }

    /// @dev Additions keep out of dstack's interfaces and have ids of their own, by which tools tell the two apart.
    function testSelectorsOfTheAdditions() public view {
        selector(app.addComposeHashes.selector, 0xfc5229e8, "addComposeHashes");
        selector(app.removeComposeHashes.selector, 0x4e1d51f3, "removeComposeHashes");
        selector(app.addDevices.selector, 0x2978005d, "addDevices");
        selector(app.removeDevices.selector, 0xd2f59fa9, "removeDevices");
        selector(kms.addOsImageHashes.selector, 0x2919cc05, "addOsImageHashes");
        selector(kms.removeOsImageHashes.selector, 0x52bdc0aa, "removeOsImageHashes");
        selector(kms.addKmsAggregatedMrs.selector, 0x2ae8d0bd, "addKmsAggregatedMrs");
        selector(kms.removeKmsAggregatedMrs.selector, 0x7219e535, "removeKmsAggregatedMrs");
        selector(kms.addKmsDevices.selector, 0x8d6df0e3, "addKmsDevices");
        selector(kms.removeKmsDevices.selector, 0x2984a4c9, "removeKmsDevices");
        selector(kms.deregisterApp.selector, 0x89997ea2, "deregisterApp");
        selector(kms.deregisteredApps.selector, 0x12886df4, "deregisteredApps");
        selector(kms.pause.selector, 0x8456cb59, "pause");
        selector(kms.unpause.selector, 0x3f4ba83a, "unpause");
        selector(kms.paused.selector, 0x5c975abb, "paused");
        VM.assertTrue(app.supportsInterface(type(IAppAuthBatches).interfaceId), "IAppAuthBatches");
        VM.assertTrue(kms.supportsInterface(type(IKmsAuthManagement).interfaceId), "IKmsAuthManagement");
        VM.assertTrue(kms.supportsInterface(type(IKmsAuthBatches).interfaceId), "IKmsAuthBatches");
        VM.assertEq(bytes32(type(IAppAuthBatches).interfaceId), bytes32(bytes4(0x49c2e7ef)), "id of IAppAuthBatches");
        VM.assertEq(
            bytes32(type(IKmsAuthManagement).interfaceId), bytes32(bytes4(0xe0b51ff9)), "id of IKmsAuthManagement"
        );
        VM.assertEq(bytes32(type(IKmsAuthBatches).interfaceId), bytes32(bytes4(0xfc1861a2)), "id of IKmsAuthBatches");
    }

    /// @dev What both contracts have of OpenZeppelin's, as dstack's do.
    function testSelectorsOfGovernance() public view {
        selector(app.owner.selector, 0x8da5cb5b, "owner");
        selector(app.pendingOwner.selector, 0xe30c3978, "pendingOwner");
        selector(app.transferOwnership.selector, 0xf2fde38b, "transferOwnership");
        selector(app.acceptOwnership.selector, 0x79ba5097, "acceptOwnership");
        selector(app.renounceOwnership.selector, 0x715018a6, "renounceOwnership");
        selector(app.upgradeToAndCall.selector, 0x4f1ef286, "upgradeToAndCall");
        selector(app.proxiableUUID.selector, 0x52d1902d, "proxiableUUID");
        selector(app.supportsInterface.selector, 0x01ffc9a7, "supportsInterface");
    }

    /// @dev Every refusal that dstack's contracts know, in the order in which they look, word for word.
    function testReasons() public {
        IAppAuth.AppBootInfo memory info = boot();
        info.appId = STRANGER;
        info.osImageHash = OTHER;
        info.tcbStatus = "OutOfDate";
        info.composeHash = OTHER;
        info.deviceId = OTHER;
        assertRefused(kms, info, "App not registered");
        kms.registerApp(STRANGER);
        assertRefused(kms, info, "OS image is not allowed");
        info.osImageHash = IMAGE;
        assertRefused(kms, info, "App not deployed or invalid address");
        info.appId = address(app);
        assertRefused(kms, info, "TCB status is not up to date");
        info.tcbStatus = "UpToDate";
        assertRefused(kms, info, "Compose hash not allowed");
        info.composeHash = COMPOSE;
        assertRefused(kms, info, "Device not allowed");
        info.deviceId = DEVICE;
        assertAllowed(kms, info);
    }

    /// @dev Overloads have no `.selector`, so the calls go out by number and must reach the right function.
    function testOverloadsAnswerToTheirSelectors() public {
        bytes memory answer =
            called(address(kms), abi.encodeWithSelector(0x9cb9c31f, TENANT, false, true, true, DEVICE, COMPOSE));
        AppAuth made = AppAuth(abi.decode(answer, (address)));
        VM.assertTrue(made.requireTcbUpToDate() && made.allowAnyDevice(), "six arguments");

        answer = called(address(kms), abi.encodeWithSelector(0x8618169d, TENANT, false, true, DEVICE, COMPOSE));
        made = AppAuth(abi.decode(answer, (address)));
        VM.assertTrue(!made.requireTcbUpToDate() && made.allowAnyDevice(), "five arguments");
    }

    function testTopicsOfAppAuth() public pure {
        topic(
            IAppAuthBasicManagement.ComposeHashAdded.selector,
            0xfecb34306dd9d8b785b54d65489d06afc8822a0893ddacedff40c50a4942d0af
        );
        topic(
            IAppAuthBasicManagement.ComposeHashRemoved.selector,
            0x755b79bd4b0eeab344d032284a99003b2ddc018b646752ac72d681593a6e8947
        );
        topic(
            IAppAuthBasicManagement.DeviceAdded.selector,
            0x67fc71ab96fe3fa3c6f78e9a00e635d591b7333ce611c0380bc577aac702243b
        );
        topic(
            IAppAuthBasicManagement.DeviceRemoved.selector,
            0xe0862975ac517b0478d308012afabc4bc37c23874a18144d7f2dfb852ff95c2c
        );
        topic(AppAuth.AllowAnyDeviceSet.selector, 0xbb2cdb6c7b362202d40373f87bc4788301cca658f91711ac1662e1ad2cba4a20);
        topic(
            AppAuth.RequireTcbUpToDateSet.selector, 0xafae60561b2481a349b45b3a47357f70eef6ae67e5b6e1749d74de7f19a25aa1
        );
        topic(AppAuth.UpgradesDisabled.selector, 0x0e5daa943fcd7e7182d0e893d180695c2ea9f6f1b4a1c5432faf14cf17b774e8);
        topic(PausableUpgradeable.Paused.selector, 0x62e78cea01bee320cd4e420270b5ea74000d11b0c9f74754ebdbfc544b05a258);
        topic(PausableUpgradeable.Unpaused.selector, 0x5db9ee0a495bf2e6ff9c91a7834c1ba4fdd244a5e8aa4e537bd38aeae4b073aa);
        topic(Governed.PolicyChanged.selector, 0x341d3bc64e32172fc5bcf27b0f7f69dc5adc19af64b7aa1dee361e5883c32375);
    }

    function testTopicsOfKmsAuth() public pure {
        topic(KmsAuth.AppRegistered.selector, 0x0d540ad8f39e07d19909687352b9fa017405d93c91a6760981fbae9cf28bfef7);
        topic(
            IKmsAuthManagement.AppDeregistered.selector,
            0x865e1db30d10f9d8bdffad468797a5843340f23c8816ae8994835e2a010f6e70
        );
        topic(KmsAuth.KmsInfoSet.selector, 0x77cdad119a452bbd96c45635758fc4af8a6bde3deaccf3fada634ddf9a162706);
        topic(KmsAuth.KmsAggregatedMrAdded.selector, 0x68615a0b92795750b3d180ff73429e1291d225e449eee954a567b91104fd9837);
        topic(
            KmsAuth.KmsAggregatedMrRemoved.selector, 0x54cd662e41eec7ddf0f32f034b2533e481b471dd3ea978222d609ec8fffb1bb0
        );
        topic(KmsAuth.KmsDeviceAdded.selector, 0xf2b290637b1193e12eb38ab32b986303639b1687cc2cd1e25f993e6eae2f4041);
        topic(KmsAuth.KmsDeviceRemoved.selector, 0x1a9888a45e3df8b7e6bb3090747d598d2a0d78e61388161a90799f54df8f4434);
        topic(KmsAuth.OsImageHashAdded.selector, 0x4911843506849c85a5ca6e6e2c01eed2d3ab86baba619517a2aad9d5ab2aeff2);
        topic(KmsAuth.OsImageHashRemoved.selector, 0x99b3cee95daf3138d0c982299cd0264f5b7a61aa629b42b92f3ec8966aa7f6fe);
        topic(KmsAuth.GatewayAppIdSet.selector, 0x5b2b64f770ea5266055ebd3ebf205ef06cbfa738e62684edf0e28356e34acf06);
        topic(KmsAuth.AppImplementationSet.selector, 0x08bb433f12b5fd81d2d5e0deeb3b4d28371781ddbd80e9d053e7468d2b1aa82d);
        topic(
            KmsAuth.AppDeployedViaFactory.selector, 0xfd86d7f6962eba3b7a3bf9129c06c0b2f885e1c61ef2c9f0dbb856be0deefdee
        );
    }

    /// @dev dstack's events carry their arguments unindexed; a log indexer that reads the data must find them there.
    function testAllowlistEventsAreUnindexed() public {
        VM.recordLogs();
        VM.prank(TENANT);
        app.addComposeHash(OTHER);
        VM.assertEq(VM.getRecordedLogs()[0].data, abi.encode(OTHER), "data of ComposeHashAdded");

        VM.recordLogs();
        kms.registerApp(STRANGER);
        VM.assertEq(VM.getRecordedLogs()[0].data, abi.encode(STRANGER), "data of AppRegistered");
    }

    function testInterfaceIds() public view {
        bytes4[3] memory ofKms = [bytes4(0x1e079198), type(IERC165).interfaceId, bytes4(0xffffffff)];
        VM.assertTrue(kms.supportsInterface(ofKms[0]) && kms.supportsInterface(ofKms[1]), "registry");
        VM.assertFalse(kms.supportsInterface(0x8fd37527) || kms.supportsInterface(ofKms[2]), "not of the registry");
        VM.assertTrue(app.supportsInterface(0x1e079198) && app.supportsInterface(0x8fd37527), "application");
        VM.assertTrue(app.supportsInterface(type(IERC165).interfaceId), "ERC-165");
        VM.assertFalse(app.supportsInterface(0xffffffff) || app.supportsInterface(0xea8447a1), "not of the application");
        VM.assertEq(bytes32(type(IAppAuth).interfaceId), bytes32(bytes4(0x1e079198)), "IAppAuth");
        VM.assertEq(
            bytes32(type(IAppAuthBasicManagement).interfaceId), bytes32(bytes4(0x8fd37527)), "IAppAuthBasicManagement"
        );
    }

    function testVersion() public view {
        VM.assertEq(app.version(), 2, "version");
    }

    /// @dev Storage proofs read these slots directly.
    function testSlotsOfAppAuth() public {
        flag(address(app), entry(COMPOSE, 0), 1, "allowedComposeHashes");
        flag(address(app), entry(DEVICE, 2), 1, "allowedDeviceIds");
        flag(address(app), bytes32(uint256(3)), 1, "requireTcbUpToDate");
        flag(address(app), bytes32(uint256(1)), 0, "no flag");
        VM.prank(TENANT);
        app.setAllowAnyDevice(true);
        flag(address(app), bytes32(uint256(1)), 0x0100, "allowAnyDevice is byte 1");
        VM.prank(TENANT);
        app.disableUpgrades();
        flag(address(app), bytes32(uint256(1)), 0x0101, "disabled upgrades are byte 0");
        VM.prank(TENANT);
        app.removeComposeHash(COMPOSE);
        flag(address(app), entry(COMPOSE, 0), 0, "removed");
    }

    function testSlotsOfKmsAuth() public {
        VM.prank(OPERATOR);
        kms.addKmsAggregatedMr(MEASUREMENT);
        VM.prank(OPERATOR);
        kms.addKmsDevice(DEVICE);
        VM.prank(OPERATOR);
        kms.setGatewayAppId("any"); // short strings lie in their slot, before twice their length
        flag(address(kms), bytes32(uint256(4)), (0x616e79 << 232) | 6, "gatewayAppId");
        flag(address(kms), entry(word(address(app)), 5), 1, "registeredApps");
        flag(address(kms), entry(MEASUREMENT, 6), 1, "kmsAllowedAggregatedMrs");
        flag(address(kms), entry(DEVICE, 7), 1, "kmsAllowedDeviceIds");
        flag(address(kms), entry(IMAGE, 8), 1, "allowedOsImages");
        flag(address(kms), bytes32(uint256(9)), uint160(address(appImplementation)), "appImplementation");
        VM.prank(OPERATOR);
        kms.deregisterApp(address(app));
        flag(address(kms), entry(word(address(app)), 5), 0, "no longer in registeredApps");
        flag(address(kms), entry(word(address(app)), 10), 1, "deregisteredApps");
    }

    /// @dev A proof that a guest is allowed needs this one too, at both contracts: ERC-7201
    /// "openzeppelin.storage.Pausable".
    function testSlotOfThePause() public {
        bytes32 slot = 0xcd5ed15c6e187e77e9aee88184c21f4f2182ab5827cb3b7e07fbedcd63f03300;
        flag(address(app), slot, 0, "not paused");
        VM.prank(TENANT);
        app.pause();
        flag(address(app), slot, 1, "paused");
    }

    function selector(bytes4 actual, bytes4 expected, string memory name) private pure {
        VM.assertEq(bytes32(actual), bytes32(expected), name);
    }

    function topic(bytes32 actual, bytes32 expected) private pure {
        VM.assertEq(actual, expected, "topic");
    }

    function flag(address account, bytes32 slot, uint256 expected, string memory name) private view {
        VM.assertEq(uint256(VM.load(account, slot)), expected, name);
    }

    /// @dev The slot of a mapping's entry.
    function entry(bytes32 key, uint256 mappingSlot) private pure returns (bytes32) {
        return keccak256(abi.encode(key, mappingSlot));
    }

    function called(address target, bytes memory call) private returns (bytes memory answer) {
        bool done;
        (done, answer) = target.call(call);
        VM.assertTrue(done, "the call reverted");
    }
}
